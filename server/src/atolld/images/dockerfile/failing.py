"""How a Dockerfile is refused: with the line, the instruction, and what to do."""

from __future__ import annotations

from atolld.foundation.errors import InvalidArgument

_MOST_QUOTED = 80


def wrong(line: int, instruction: str, message: str) -> InvalidArgument:
    """The error of one instruction; `line` is counted from 1."""
    at = f"line {line}: {instruction}" if instruction else f"line {line}"
    return InvalidArgument(f"Dockerfile {at}: {message}", line=line, instruction=instruction)


def quoted(text: str) -> str:
    """`text` in quotes, shortened: it may be hostile and long."""
    return repr(text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}...")
