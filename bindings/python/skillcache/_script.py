"""A script that stands alone: a source with data written into it."""

from __future__ import annotations


class Script(str):
    """The text of the script, and how the places for the data were found."""

    __slots__ = ("method",)

    method: str
    """``"ast"``: the source was parsed. ``"lexical"``: it does not parse, and ``inject.fallback`` is ``lexical``."""

    def __new__(cls, code: str, method: str) -> Script:
        script = super().__new__(cls, code)
        script.method = method
        return script
