"""How the Python runners tell what they found: a JSON object a line."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from typing import Any

EXAMPLES: list[Callable[..., Any]] = []


def example(body: Callable[..., Any]) -> Callable[..., Any]:
    """Register an example; it is given the shared sandbox."""
    EXAMPLES.append(body)
    return body


def page(body: Callable[..., Any]) -> Callable[..., Any]:
    """Register what a page of E2B's documentation shows, under the page's name."""
    body.__name__ = f"page: {body.__name__}"
    return example(body)


def tell(name: str, began: float, error: BaseException | None) -> None:
    """Print how one example went."""
    reason = "" if error is None else "".join(traceback.format_exception(error))[-1500:]
    print(json.dumps({"example": name, "reason": reason, "ms": round((time.monotonic() - began) * 1000)}), flush=True)
