"""The library: skills are put, found and run here."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from ctypes import byref, c_uint32, c_uint64, c_void_p, string_at
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, Union

from . import _arguments as arguments
from . import _json
from ._arguments import CacheMode, Data, OptionValue
from ._bindings import DROP, E_FORKED, E_INVALID, EVENT, OK, PROGRESS, C
from ._errors import ClosedError, Error, TimeoutError, from_status, take
from ._handle import CallbackThreads, LibraryHandle
from ._result import Result
from ._script import Script
from ._skill import Record, Skill
from ._task import Task, wait_slices

Read = TypeVar("Read")

_List = list
"""The type, which the method `Library.list` hides inside its class."""


def open(
    path: Union[str, os.PathLike[str]],
    options: Optional[Mapping[str, OptionValue]] = None,
    on_event: Optional[Callable[[dict[str, Any]], None]] = None,
    on_log: Optional[Callable[[dict[str, Any]], None]] = None,
) -> Library:
    """Opens the library in the SQLite file `path`, which is made when it is missing; ``":memory:"`` keeps nothing.

    `options` are those of ``docs/CONFIGURATION.md``. `on_event` is called with every event on a thread of the library,
    and `on_log` with what the library says while it works (``time``, ``level``, ``target``, ``message``, ``fields``),
    as far as the option ``monitor.log_level`` says. Nothing is ever printed, and `logging` is left alone.

    Raises InvalidArgumentError (an unknown option, a value out of range), SandboxError, DatabaseConnectionError,
    CorruptDatabaseError, NewerDatabaseError.
    """
    return Library(path, options, on_event, on_log)


class Library:
    """An open skill library. Any thread may use it; close it, or use it in a with-statement.

    A child of ``os.fork()`` cannot use it: every call raises ForkedError there, and `close` lets go of it.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        options: Optional[Mapping[str, OptionValue]] = None,
        on_event: Optional[Callable[[dict[str, Any]], None]] = None,
        on_log: Optional[Callable[[dict[str, Any]], None]] = None,
    ) -> None:
        """See `open`."""
        self._callbacks = CallbackThreads()
        # Kept as long as the library, whose threads call them until close returns.
        self._on_event = _line_trampoline("on_event", on_event, self._callbacks)
        self._on_log = _line_trampoline("on_log", on_log, self._callbacks)
        self._path = os.fspath(path)
        self._handle = LibraryHandle(self._open(options or {}), self._callbacks)

    def _open(self, options: Mapping[str, OptionValue]) -> int:
        config = C.skc_config_new()
        library, error = c_void_p(), c_void_p()
        try:
            for key, value in options.items():
                _check(
                    C.skc_config_set(config, arguments.text(key, "option"), arguments.option(key, value), byref(error)),
                    error,
                )
            if self._on_event:
                _check(C.skc_config_on_event(config, self._on_event, None, DROP(), byref(error)), error)
            if self._on_log:
                _check(C.skc_config_on_log(config, self._on_log, None, DROP(), byref(error)), error)
            path = arguments.no_nul(os.fsencode(self._path), "path")
            _check(C.skc_library_open(path, config, byref(library), byref(error)), error)
        finally:
            C.skc_config_free(config)
        assert library.value, "the library reported success without a handle"
        return library.value

    # Skills

    def put(self, id: str, code: str, *, expected_version: Optional[int] = None, **fields: object) -> int:
        """Stores a skill and returns its version: the next one if the content changed, else the same.

        `fields` are those of the record: ``description="..."``, ``tags=["ta"]``, ``input_schema={...}``,
        ``parameters={...}``, ``cache="auto"``, ``ttl_s=60``, a limit as for `run`, ``max_cpu_s=2``, or all of them,
        ``limits={...}``, ...; None leaves one as it is.

        Raises SkillSyntaxError, SecurityValidationError, SkillValidationError, UnsupportedError, ConflictError (the
        newest version is not `expected_version`), InvalidArgumentError.
        """
        text = arguments.text(code, "code", nul_ends=False)
        skill = C.skc_skill_new(arguments.text(id, "id"), text, len(text))
        if not skill:
            raise from_status(E_INVALID, f"the id {id!r} cannot be that of a skill", path="id")
        version, error = c_uint32(), c_void_p()
        try:
            # All limits at once stand before single ones, which change them.
            for name, value in {"limits": None, **fields, "expected_version": expected_version}.items():
                if value is not None:
                    _check(
                        C.skc_skill_set(
                            skill, arguments.text(name, "field"), arguments.field(name, value), byref(error)
                        ),
                        error,
                    )
            self._handle.call(C.skc_library_put, skill, byref(version))
        finally:
            C.skc_skill_free(skill)
        return version.value

    def get(self, id: str, version: int = 0) -> Skill:
        """One version of a skill; 0 is the newest. Raises SkillNotFoundError."""
        skill = c_void_p()
        self._handle.call(C.skc_library_get, arguments.text(id, "id"), arguments.version(version), byref(skill))
        try:
            return Skill(_json.decode(C.skc_skill_json(skill).text()))
        finally:
            C.skc_skill_free(skill)

    def remove(self, id: str) -> None:
        """Hides every version of a skill; a later `put` continues the numbering. Raises SkillNotFoundError."""
        self._handle.call(C.skc_library_remove, arguments.text(id, "id"))

    def list(self, **filter: object) -> _List[Skill]:
        """The newest versions of the skills, without their code.

        Filters: ``category``, ``complexity``, ``tags`` (all of them), ``name`` (part of the name or id), ``active``
        (bool), ``state``, ``min_success_rate``, ``min_usage_count``, ``after`` (an id, for the next page),
        ``limit``, ``offset``.
        """
        query = arguments.given(filter)
        text = _json.encode(query, "$").encode() if query else None
        return [Skill(record) for record in self._document(C.skc_library_list, text)]

    def search(
        self,
        text: Optional[str] = None,
        tags: Optional[Iterable[str]] = None,
        limit: int = 5,
        **more: object,
    ) -> _List[Record]:
        """The active skills that fit best, the best first.

        A hit has ``id``, ``version``, ``name``, ``description``, ``tags``, ``state``, ``score``, ``text_score`` and
        ``vector_score``. `tags` must all be there; `more` are ``embedding`` (as many numbers as the stored ones have),
        ``min_score``, ``vector_weight`` (0 to 1: what the embedding counts beside the words) and further filters.
        """
        wanted = None if tags is None else [tags] if isinstance(tags, str) else [*tags]
        query = arguments.given({"text": text, "tags": wanted, "limit": limit, **more})
        return [Record(hit) for hit in self._document(C.skc_library_search, _json.encode(query, "$").encode())]

    def validate(self, code: str) -> Record:
        """What the library makes of a code, without storing it.

        ``valid`` (whether `put` would take it), ``findings`` (``rule``, ``severity``, ``line``, ``column``,
        ``message``, ``advice``, ``text``), ``deterministic`` with its ``reasons``, ``slots`` (the line of the default
        of each input name), ``symbols`` (``docstring``, ``functions``, ``classes``, ``imports``, ``reads``),
        ``policy`` (its mode) and ``rules_version``.
        """
        text = arguments.text(code, "code", nul_ends=False)
        report = Record(self._document(C.skc_library_validate, text, len(text)))
        report["findings"] = [Record(finding) for finding in report["findings"]]
        return report

    def inject(self, code: str, inputs: Data = None, context: Data = None) -> Script:
        """The code with the data written into it: a str that stands alone, with `method` ``"ast"`` or ``"lexical"``.

        Raises SkillSyntaxError for code that does not parse, unless ``inject.fallback`` is ``lexical`` and finds a way.
        """
        text = arguments.text(code, "code", nul_ends=False)
        data = arguments.data(inputs, context)
        return self._read(_script, C.skc_library_inject, text, len(text), data, len(data))

    # In and out

    def import_skills(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        format: Optional[str] = None,
        on_conflict: Optional[str] = None,
        dry_run: bool = False,
    ) -> Record:
        """Stores the skills of a file or folder: a bundle, ``SKILL.md`` folders, the reference system's JSON files.

        `format` is ``"bundle"``, ``"markdown"`` or ``"reference"``; None finds it out. `on_conflict` is what to do with
        ids that are there with other content: ``"new_version"`` (the default), ``"skip"``, or ``"fail"``, which rejects
        them. A dry run checks everything and stores nothing.

        The report has ``format``, ``imported`` (``id``, ``version``, ``source``), ``unchanged``, ``skipped``,
        ``rejected`` (``source``, ``id``, ``reason``) and ``notes`` (``source``, ``note``): what is refused is listed
        and the rest is imported.

        Raises InvalidArgumentError when nothing can be read there, UnsupportedError for a bundle of a later format; an
        error that stops everything has what was done before as ``details["report"]``.
        """
        options = {"format": format, "on_conflict": on_conflict, "dry_run": dry_run or None}
        return self._exchange(C.skc_library_import, path, options, ["imported", "rejected", "notes"])

    def export_skills(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        format: Optional[str] = None,
        ids: Optional[Iterable[str]] = None,
        versions: Optional[str] = None,
        overwrite: bool = False,
        **filter: object,
    ) -> Record:
        """Writes skills to a bundle file or a folder, which appears when it is whole.

        `format` is ``"bundle"`` (the default), ``"markdown"`` or ``"reference"``. Without `ids`, those that pass the
        filter, whose members are those of `list`. `versions` is ``"newest"`` (the default) or ``"all"``, for bundles.

        The report has ``format``, ``exported`` (skills), ``versions``, ``rejected`` (``source``, ``id``, ``reason``)
        and ``notes`` (``source``, ``note``: what the format could not keep).

        Raises InvalidArgumentError for a target that is there, unless it may be overwritten.
        """
        options = {
            "format": format,
            "ids": None if ids is None else [ids] if isinstance(ids, str) else [*ids],
            "filter": arguments.given(filter) or None,
            "versions": versions,
            "overwrite": overwrite or None,
        }
        return self._exchange(C.skc_library_export, path, options, ["rejected", "notes"])

    def _exchange(
        self,
        function: Callable[..., int],
        path: Union[str, os.PathLike[str]],
        options: Mapping[str, object],
        lists: Iterable[str],
    ) -> Record:
        place = arguments.text(os.fspath(path), "path")
        given = arguments.given(options)
        report = Record(self._document(function, place, _json.encode(given, "$").encode() if given else None))
        for name in lists:
            report[name] = [Record(member) for member in report[name]]
        return report

    # Runs

    def run(
        self,
        id: str,
        inputs: Data = None,
        *,
        context: Data = None,
        version: int = 0,
        cache: CacheMode = None,
        ttl_s: Optional[float] = None,
        trace: Optional[str] = None,
        timeout_ms: Optional[int] = None,
        max_cpu_s: Optional[int] = None,
        max_memory_mb: Optional[int] = None,
        max_file_mb: Optional[int] = None,
        max_open_files: Optional[int] = None,
        max_threads: Optional[int] = None,
        max_output_kb: Optional[int] = None,
        max_answer_kb: Optional[int] = None,
    ) -> Result:
        """Runs a skill, or hands out the kept answer of an equal run. A run that fails is a Result that says so.

        `version` 0 is the newest; `ttl_s` is how long the answer may be kept. `trace` comes back in events, and as
        the result's `trace_id` if it is a W3C traceparent. `timeout_ms` and the `max_...` bound this run instead of
        the skill's and the library's own limits, which may be smaller; units and ranges are those of the options of
        the same names (room ``sandbox``). Ctrl-C is seen when the run ends; `submit` and `Task.wait` can be
        interrupted.

        Raises SkillNotFoundError, InvalidArgumentError, CacheOverflowError (``cache="required"``), CancelledError or
        ClosedError (`close` was called meanwhile).
        """
        data = arguments.data(inputs, context)
        options = arguments.run_options(
            cache,
            version=version,
            ttl_s=ttl_s,
            trace=trace,
            timeout_ms=timeout_ms,
            max_cpu_s=max_cpu_s,
            max_memory_mb=max_memory_mb,
            max_file_mb=max_file_mb,
            max_open_files=max_open_files,
            max_threads=max_threads,
            max_output_kb=max_output_kb,
            max_answer_kb=max_answer_kb,
        )
        result = c_void_p()
        self._handle.call(C.skc_library_run, arguments.text(id, "id"), data, len(data), options, byref(result))
        return Result.take(result.value)

    def run_many(
        self,
        id: str,
        items: Iterable[Data],
        *,
        context: Data = None,
        progress: Optional[Callable[[int, int], object]] = None,
        concurrency: Optional[int] = None,
        version: int = 0,
        cache: CacheMode = None,
        ttl_s: Optional[float] = None,
        trace: Optional[str] = None,
        timeout_ms: Optional[int] = None,
        max_cpu_s: Optional[int] = None,
        max_memory_mb: Optional[int] = None,
        max_file_mb: Optional[int] = None,
        max_open_files: Optional[int] = None,
        max_threads: Optional[int] = None,
        max_output_kb: Optional[int] = None,
        max_answer_kb: Optional[int] = None,
    ) -> _List[Result]:
        """Runs a skill once for each inputs of `items`, several at a time, and returns the results in their order.

        ``progress(done, total)`` is called as they finish; False cancels the rest, and so does an exception, which is
        raised from here.
        """
        bound = "" if context is None else f',"context":{_json.encode(context, "$.context")}'
        texts = [arguments.item(inputs, f"$[{index}].inputs", bound) for index, inputs in enumerate(items)]
        data = f"[{','.join(texts)}]".encode()
        options = arguments.run_options(
            cache,
            version=version,
            ttl_s=ttl_s,
            trace=trace,
            concurrency=concurrency,
            timeout_ms=timeout_ms,
            max_cpu_s=max_cpu_s,
            max_memory_mb=max_memory_mb,
            max_file_mb=max_file_mb,
            max_open_files=max_open_files,
            max_threads=max_threads,
            max_output_kb=max_output_kb,
            max_answer_kb=max_answer_kb,
        )
        failures: _List[BaseException] = []
        trampoline = self._progress_trampoline(progress, failures) if progress else PROGRESS()
        results = c_void_p()
        try:
            self._handle.call(
                C.skc_library_run_many,
                arguments.text(id, "id"),
                data,
                len(data),
                options,
                trampoline,
                None,
                byref(results),
            )
            if failures:
                raise failures[0]
            return [Result(C.skc_results_at(results, index)) for index in range(C.skc_results_len(results))]
        except Error:
            if failures:
                raise failures[0] from None
            raise
        finally:
            C.skc_results_free(results)

    def _progress_trampoline(self, progress: Callable[[int, int], object], failures: _List[BaseException]) -> Any:
        def report(_: Optional[int], done: int, total: int) -> bool:
            if failures or self.closed:
                return False
            try:
                with self._callbacks.entered():
                    return progress(done, total) is not False
            except BaseException as error:  # Not even SystemExit may pass through C; run_many raises it.
                failures.append(error)
                return False

        return PROGRESS(report)

    def submit(
        self,
        id: str,
        inputs: Data = None,
        *,
        context: Data = None,
        version: int = 0,
        cache: CacheMode = None,
        ttl_s: Optional[float] = None,
        trace: Optional[str] = None,
        timeout_ms: Optional[int] = None,
        max_cpu_s: Optional[int] = None,
        max_memory_mb: Optional[int] = None,
        max_file_mb: Optional[int] = None,
        max_open_files: Optional[int] = None,
        max_threads: Optional[int] = None,
        max_output_kb: Optional[int] = None,
        max_answer_kb: Optional[int] = None,
    ) -> Task:
        """Starts a run in the background; the arguments are those of `run` and may be changed afterwards.

        The skills that wait take turns: one with many tasks does not hold up another's.

        Raises BusyError when too many tasks wait (option ``task.queue``).
        """
        data = arguments.data(inputs, context)
        options = arguments.run_options(
            cache,
            version=version,
            ttl_s=ttl_s,
            trace=trace,
            timeout_ms=timeout_ms,
            max_cpu_s=max_cpu_s,
            max_memory_mb=max_memory_mb,
            max_file_mb=max_file_mb,
            max_open_files=max_open_files,
            max_threads=max_threads,
            max_output_kb=max_output_kb,
            max_answer_kb=max_answer_kb,
        )
        task = c_void_p()
        self._handle.call(C.skc_library_submit, arguments.text(id, "id"), data, len(data), options, byref(task))
        assert task.value, "the library reported success without a task"
        return Task(task.value, self)

    # Insight

    def stats(self) -> dict[str, Any]:
        """The statistics, as ``docs/STATISTICS.md`` describes them."""
        statistics: dict[str, Any] = self._document(C.skc_library_stats)
        return statistics

    def metrics(self) -> str:
        """The same numbers as OpenMetrics text, to be served as ``application/openmetrics-text; version=1.0.0``."""
        return self._blob(C.skc_library_metrics)

    def recommendations(self) -> _List[dict[str, Any]]:
        """What somebody could change, judged by the statistics alone; empty while all is well, or too little has
        happened to say.

        Each has ``rule``, ``severity`` (``"info"``, ``"warning"``), ``message``, ``remedy``, ``evidence`` (the numbers
        behind it) and ``sample``.
        """
        found: _List[dict[str, Any]] = self._document(C.skc_library_recommendations)
        return found

    def history(self) -> dict[str, Any]:
        """How some of the numbers went: ``interval_s`` and ``samples``, the newest last (option
        ``monitor.history_interval_s``). ``docs/STATISTICS.md`` describes the samples."""
        history: dict[str, Any] = self._document(C.skc_library_history)
        return history

    def outcomes(self, id: Optional[str] = None) -> _List[dict[str, Any]]:
        """How the calls of a skill, or of all, ended, by day, those of earlier processes too: ``day``, ``skill``,
        ``version``, ``outcome``, ``count``, the oldest day first.

        Raises SkillNotFoundError.
        """
        outcomes: _List[dict[str, Any]] = self._document(
            C.skc_library_outcomes, None if id is None else arguments.text(id, "id")
        )
        return outcomes

    def report_memory(self) -> dict[str, Any]:
        """Reads this process's memory figures now, records them as the event ``memory_report``, and returns them: the
        member ``memory`` of `stats`."""
        report: dict[str, Any] = self._document(C.skc_library_report_memory)
        return report

    def health(self) -> dict[str, Any]:
        """``status`` (``"healthy"``, ``"degraded"``, ``"unhealthy"``) and the ``components`` behind it, each with what
        helps."""
        health: dict[str, Any] = self._document(C.skc_library_health)
        return health

    def events(self, timeout_ms: int = 0) -> Iterator[dict[str, Any]]:
        """The events that wait to be read, and those that come, until none came for `timeout_ms` (negative: for ever).

        Each event goes to one reader. Closing the library ends the iteration.
        """
        if self.closed:
            raise self._handle.closed_error()
        return self._events(timeout_ms)

    def _events(self, timeout_ms: int) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(ClosedError):
            while True:
                event = self._next_event(timeout_ms)
                if event is None:
                    return
                yield event

    def _next_event(self, timeout_ms: int) -> Optional[dict[str, Any]]:
        for slice_ms, is_last in wait_slices(timeout_ms):
            try:
                event: dict[str, Any] = self._document(C.skc_library_next_event, slice_ms)
            except TimeoutError:
                if is_last:
                    return None
            else:
                return event
        return None

    @property
    def event_fd(self) -> int:
        """A descriptor that is readable while events wait, for select and asyncio; the library owns it."""
        descriptor = int(self._handle.get(C.skc_library_event_fd))
        if descriptor < 0 and self._on_event:
            raise from_status(E_INVALID, "events go to the callback this library was opened with")
        if descriptor < 0:
            raise from_status(E_FORKED)
        return descriptor

    # Upkeep

    def check_caches(self, threshold: float = 0.85) -> _List[dict[str, Any]]:
        """The bounds of the caches of which at least `threshold` (0 to 1) is used now. Asking raises no event.

        Each has ``cache`` (``"execution"``, ``"prepared"``, ``"metadata"``), ``bound`` (``"entries"``, ``"bytes"``),
        ``size``, ``max_size``, ``threshold`` and ``message``.

        Raises InvalidArgumentError.
        """
        alerts: _List[dict[str, Any]] = self._document(
            C.skc_library_check_caches, arguments.number(threshold, "threshold")
        )
        return alerts

    def check(self, which: str = "quick") -> Record:
        """Checks the database file now: ``"quick"`` reads every page, ``"full"`` also holds every index and every skill
        against what it should be.

        Returns ``ok``, ``findings`` (each has ``kind``, ``where`` and ``message``) and ``took_ms``. Damage is in there
        and raises nothing; `health` shows it from then on.

        Raises InvalidArgumentError, BusyError, DatabaseConnectionError.
        """
        return Record(self._document(C.skc_library_check, arguments.text(which, "which")))

    def backup(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes a copy of the database as of now to a path where nothing is yet, while others read and write.

        Raises InvalidArgumentError when there is something, DatabaseConnectionError, CorruptDatabaseError.
        """
        self._handle.call(C.skc_library_backup, arguments.no_nul(os.fsencode(path), "path"))

    def clear(self, which: str = "all") -> None:
        """Empties a cache: ``"execution"``, ``"prepared"``, ``"metadata"`` or ``"all"``."""
        self._handle.call(C.skc_library_clear, arguments.text(which, "which"))

    def set_state(self, id: str, state: str) -> None:
        """Makes a skill ``"active"``, ``"quarantined"`` (set aside) or ``"retired"`` (put away).

        What is not active is not run (its runs end as ``"rejected"``) and not found unless it is asked for.
        """
        self._handle.call(C.skc_library_set_state, arguments.text(id, "id"), arguments.text(state, "state"))

    def rebuild_index(self) -> int:
        """Makes the index of words anew from the skills, and returns how many it has."""
        count = c_uint64()
        self._handle.call(C.skc_library_rebuild_index, byref(count))
        return count.value

    def evict_expired(self) -> int:
        """Drops the cached entries whose time to live has passed, and returns how many they were."""
        count = c_uint64()
        self._handle.call(C.skc_library_evict_expired, byref(count))
        return count.value

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle.closed

    def close(self) -> None:
        """Refuses new calls, cancels the running ones, waits for them and closes. May be called again.

        From a callback of this library it returns at once and closes when the callback has returned.
        """
        self._handle.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is None or handle.closed:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        with contextlib.suppress(Error):
            handle.close()

    def __repr__(self) -> str:
        return f"<Library {self._path!r}{' closed' if self.closed else ''}>"

    def _blob(self, function: Callable[..., int], *arguments: object) -> str:
        return self._read(_text, function, *arguments)

    def _read(self, read: Callable[[c_void_p], Read], function: Callable[..., int], *arguments: object) -> Read:
        blob = c_void_p()
        self._handle.call(function, *arguments, byref(blob))
        try:
            return read(blob)
        finally:
            C.skc_blob_free(blob)

    def _document(self, function: Callable[..., int], *arguments: object) -> Any:
        return _json.decode(self._blob(function, *arguments))


def _line_trampoline(name: str, on_line: Optional[Callable[[dict[str, Any]], None]], callbacks: CallbackThreads) -> Any:
    if on_line is None:
        return None
    if not callable(on_line):
        raise from_status(E_INVALID, f"{name} must be callable, not {type(on_line).__name__}", path=name)

    def deliver(_: Optional[int], text: int, length: int) -> None:
        # An exception here goes to sys.unraisablehook: there is no caller to raise it to.
        with callbacks.entered():
            on_line(_json.decode(string_at(text, length).decode("utf-8")))

    return EVENT(deliver)


def _text(blob: c_void_p) -> str:
    return C.skc_blob_str(blob).text()  # type: ignore[no-any-return]


def _script(blob: c_void_p) -> Script:
    return Script(_text(blob), C.skc_blob_method(blob).text())


def _check(status: int, error: c_void_p) -> None:
    if status != OK:
        raise take(status, error.value)
