"""Records: what the library says about a skill."""

from __future__ import annotations

from typing import Any, Optional


class Record(dict[str, Any]):
    """A JSON object of the library: a dict whose members can also be read as attributes.

    It is a copy: changing it changes nothing in the library.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no member {name!r}") from None

    @property
    def json(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return dict(self)


class Skill(Record):
    """One version of a skill: its code and every field of its record. Times are RFC 3339 text in UTC, or None."""

    id: str
    name: str
    description: str
    category: str
    complexity: str
    version: int
    code: str
    language: str
    input_schema: Optional[dict[str, Any]]
    output_schema: Optional[dict[str, Any]]
    parameters: dict[str, Any]
    performance_metrics: dict[str, Any]
    usage_count: int
    success_count: int
    last_used: Optional[str]
    outcomes: dict[str, int]
    state: str
    is_active: bool
    instructions: Optional[str]
    origin: Optional[str]
    author: Optional[str]
    model: Optional[str]
    parent: Optional[str]
    tags: list[str]
    required_skills: list[str]
    dependencies: list[str]
    examples: list[Any]
    learned_from: Optional[str]
    created_by: Optional[str]
    created_at: str
    updated_at: str
    cache: str
    ttl_s: Optional[float]
    key_order: str
    limits: Optional[dict[str, int]]
    timeout_ms: Optional[int]
    max_cpu_s: Optional[int]
    max_memory_mb: Optional[int]
    max_file_mb: Optional[int]
    max_open_files: Optional[int]
    max_threads: Optional[int]
    max_output_kb: Optional[int]
    max_answer_kb: Optional[int]

    def __repr__(self) -> str:
        return f"<Skill {self.id!r} version {self.version}>"
