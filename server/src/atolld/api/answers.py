"""Answers that go on for as long as something is done, so that what fails has to be told in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

from pydantic import BaseModel

from atolld.api.errors import internal, render
from atolld.foundation.errors import AtollError
from atolld.foundation.ids import RequestId

T = TypeVar("T")

# The media type of one JSON object a line.
LINES = "application/x-ndjson"


async def lines_of(
    items: AsyncIterator[T], view: Callable[[T], BaseModel], request_id: RequestId
) -> AsyncIterator[bytes]:
    """A line for each of `items`, without fields that are None; what they raise becomes the last one, in the form that
    errors have. `items` is closed at the end, also when nobody listens any more."""
    async with aclosing(items):  # type: ignore[type-var]
        try:
            async for item in items:
                yield view(item).model_dump_json(exclude_none=True).encode() + b"\n"
        except AtollError as error:
            yield render(error, request_id, None).body + b"\n"
        except Exception:
            yield render(internal(request_id), request_id, None).body + b"\n"
            # For the daemon's log: its sender learns no more than that.
            raise


async def with_first(first: T, rest: AsyncIterator[T]) -> AsyncIterator[T]:
    """`first`, which was taken to know that there is an answer, and all of `rest`, which is closed at the end."""
    async with aclosing(rest):  # type: ignore[type-var]
        yield first
        async for item in rest:
            yield item
