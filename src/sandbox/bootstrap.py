# What runs in the child before and after the skill; compiled once, by the interpreter that runs it (see interpreter.rs).
# It talks to the host over descriptor 3 alone: a length-prefixed JSON job comes in, by the `receive` of opening.py, and one
# length-prefixed frame goes out. A frame is one letter and its payload:
#   S result as JSON       N no result       O result has no JSON form       E exception (JSON)
#   X refused by compile() (JSON)            M out of memory                 C checked (JSON)
#   V another interpreter than the one that compiled this (opening.py)
# Every import here is paid for by every run: `json` alone doubles the start, so its C half is used directly.
# What is needed after the skill is bound here, before the skill can rebind it: a run whose `len` is another would announce
# a length that is none.
def _main(
    receive,
    len=len,
    str=str,
    int=int,
    type=type,
    isinstance=isinstance,
    memoryview=memoryview,
    name_of=type.__dict__["__name__"].__get__,
    BaseException=BaseException,
    MemoryError=MemoryError,
    SyntaxError=SyntaxError,
    OSError=OSError,
):
    import sys

    posix = sys.modules["posix"]
    read, write, leave = posix.read, posix.write, posix._exit
    channel = 3

    def send(kind, payload=b""):
        if isinstance(payload, str):
            payload = payload.encode("ascii")
        frame = memoryview((1 + len(payload)).to_bytes(4, "big") + kind + payload)
        while frame:
            frame = frame[write(channel, frame) :]
        # The host has all it needs and ends this process; nothing of the skill runs on.
        while read(channel, 1):
            pass
        leave(0)

    class Settings:
        strict, object_hook, object_pairs_hook, memo = True, None, None, {}
        parse_float, parse_int, parse_constant = float, int, None

    def unknown(value):
        raise TypeError("%s is not a JSON value" % type(value).__name__)

    try:
        import _json

        decode = _json.make_scanner(Settings)
        make_encoder, quote = _json.make_encoder, _json.encode_basestring_ascii

        def encode(value):
            parts = make_encoder({}, unknown, quote, None, ":", ",", False, False, False)(value, 0)
            return "".join(parts)

    except (ImportError, AttributeError):
        import json

        decode, dumps = json.JSONDecoder().raw_decode, json.dumps

        def encode(value):
            return dumps(value, separators=(",", ":"), allow_nan=False, default=unknown)

    # Integers of any size cross the channel; the skill itself keeps the interpreter's own bound.
    bound_digits = getattr(sys, "set_int_max_str_digits", lambda digits: None)
    digits = getattr(sys, "get_int_max_str_digits", lambda: 0)()
    bound_digits(0)
    job = decode(receive(int.from_bytes(receive(4), "big")).decode("utf-8"), 0)
    job = job[0] if isinstance(job, tuple) else job
    bound_digits(digits)
    # As many threads as are allowed fit into the memory that is allowed: the system's own 8 MiB each would not.
    sys.modules["_thread"].stack_size(2 << 20)
    sys.path.extend(job["path"])
    sys.argv = [""]
    # Every script has these; `-S` leaves them out.
    builtins = sys.modules["builtins"]
    builtins.exit = builtins.quit = sys.exit

    def shown(value):
        """Its text, cut. Whatever a skill's own exception does when looked at is contained."""
        try:
            return str(value)[:65536]
        except MemoryError:
            raise
        except BaseException:
            return "<it could not be shown>"

    def whole_text(value):
        """The same without halves of characters (what os.fsdecode makes of odd bytes), which JSON has no room for."""
        return str.encode(value, "utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value

    def whole(value):
        return value if type(value) is int else None

    def describe(error, traceback):
        """The members of an error frame."""
        report = {"type": name_of(type(error))[:256], "message": shown(error)}
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == "<skill>":
                report["line"] = traceback.tb_lineno
            traceback = traceback.tb_next
        if isinstance(error, SyntaxError):
            report["line"] = whole(error.lineno) or report.get("line") or 1
            report["column"] = whole(error.offset) or 1
            report["message"] = shown(error.msg)
        if isinstance(error, OSError) and whole(error.errno) is not None:
            report["errno"] = error.errno
        return report

    def encoded(error, traceback, more):
        """The same as JSON, with what `more` adds, or what is left of it if looking at the exception raises one."""
        try:
            report = describe(error, traceback)
            more(report)
            return encode({name: whole_text(value) for name, value in report.items()})
        except MemoryError:
            raise
        except BaseException:
            return encode({"type": name_of(type(error))[:256], "message": "<the exception could not be shown>"})

    def show(error, traceback, source):
        import linecache
        import traceback as tracebacks

        lines = source.splitlines(True)
        linecache.cache["<skill>"] = (len(source), None, lines, "<skill>")
        return "".join(tracebacks.format_exception(type(error), error, traceback))[-262144:]

    def build():
        code = compile(job["code"], "<skill>", "exec", dont_inherit=True)
        data = job["slots"]
        consts = tuple(data[c] if type(c) is str and c in data else c for c in code.co_consts)
        return code.replace(co_consts=consts) if data else code

    def refusal(error):
        def place(report):
            report.setdefault("line", 1)
            report.setdefault("column", 1)

        return encoded(error, None, place)

    if job["check"]:
        missing = []
        if job["dependencies"]:
            from importlib import metadata, util

            def is_there(name):
                try:
                    if util.find_spec(name.replace("-", "_")) is not None:
                        return True
                except (ImportError, ValueError):
                    pass
                try:
                    return metadata.distribution(name) is not None
                except metadata.PackageNotFoundError:
                    return False

            missing = [name for name in job["dependencies"] if not is_there(name)]
        try:
            build()
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            send(b"X", refusal(error))
        send(b"C", encode({"missing": missing}))

    module = type(sys)("__main__")
    module.__dict__.update(job["globals"])
    module.__dict__["__builtins__"] = builtins
    try:
        code = build()
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        send(b"X", refusal(error))
    source = job["source"] if job["source"] is not None else job["code"]
    sys.modules["__main__"] = module
    # Address space for what is said of a run out of memory. The zeros are the kernel's until somebody looks at them.
    reserve = bytes(1 << 20)
    missing = object()
    job = None

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass

    try:
        exec(code, module.__dict__)
    except MemoryError:
        del reserve
        module.__dict__.clear()
        send(b"M")
    except BaseException as error:
        del reserve
        flush()
        bound_digits(0)
        # The first entry is this file's own `exec`.
        traceback = error.__traceback__.tb_next

        def trace(report):
            try:
                report["traceback"] = show(error, traceback, source)
            except MemoryError:
                raise
            except BaseException:
                report["traceback"] = ""

        try:
            send(b"E", encoded(error, traceback, trace))
        except MemoryError:
            send(b"M")
    flush()
    result = module.__dict__.get("result", missing)
    if result is missing:
        send(b"N")
    bound_digits(0)
    try:
        answer = encode(result)
    except MemoryError:
        del reserve
        send(b"M")
    except BaseException as error:
        send(b"O", encoded(error, None, lambda report: None))
    send(b"S", answer)


_main(receive)
