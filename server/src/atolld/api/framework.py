"""Faults the web framework finds, told in the API's one form."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from atolld.api.errors import Renderer, internal, render
from atolld.foundation.errors import AtollError, Internal, InvalidArgument, NotFound
from atolld.foundation.ids import RequestId, new_request_id

log = logging.getLogger("atolld.api")

MAX_SHOWN = 80

_EXPECTED = {
    "extra_forbidden": "is not a known field; remove it",
    "missing": "is required",
    "json_invalid": "is not valid JSON",
    "finite_number": "must be a finite number",
}


def install(app: FastAPI, render: Renderer = render) -> None:
    """Answer every fault of `app` in the form that `render` gives it."""
    app.state.render = render
    app.add_exception_handler(AtollError, _atoll_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(Exception, _unexpected)


def request_id_of(request: Request) -> RequestId:
    """The id the daemon gave this request."""
    given = request.scope.get("state", {}).get("request_id")
    return RequestId(given) if isinstance(given, str) else new_request_id()


def answer(request: Request, error: AtollError, status: int | None = None) -> Response:
    """`error` as an answer to `request`."""
    told = request.app.state.render(error, request_id_of(request), status)
    response = Response(told.body, told.status)
    response.raw_headers = told.headers
    return response


def sentence(faults: Sequence[Mapping[str, object]]) -> str:
    """One sentence for the first of pydantic's faults: the field, the value (shortened) and what is expected."""
    fault = faults[0]
    kind = str(fault.get("type", ""))
    location = [str(part) for part in _parts(fault.get("loc"))]
    place, path = (location[0], location[1:]) if location else ("body", [])
    if kind == "json_invalid":
        context = fault.get("ctx")
        why = context.get("error", "") if isinstance(context, Mapping) else ""
        return f"the body is not valid JSON: {why}" if why else "the body is not valid JSON"
    if isinstance(fault.get("input"), bytes):
        return "the body is not JSON: send an object, with the header 'Content-Type: application/json'"
    name = ".".join(path) or f"the {place}"
    where = {"query": "query parameter ", "path": "path parameter ", "header": "header "}.get(place, "")
    expected = _EXPECTED.get(kind)
    if kind in ("extra_forbidden", "missing"):
        return f"{where}{name} {expected}"
    message = expected or _lowered(str(fault.get("msg", "is not valid")))
    return f"{where}{name} is {shown(fault.get('input'))}: {message}"


def shown(value: object) -> str:
    """`value` as a message shows it, at most 80 characters long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _parts(location: object) -> Sequence[object]:
    return location if isinstance(location, (list, tuple)) else ()


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


async def _atoll_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AtollError)
    response = answer(request, error)
    if isinstance(error, Internal):
        log.error("request failed: %s", error.message, exc_info=error, extra={"code": error.code})
    elif response.status_code >= 500:
        log.warning("request failed: %s", error.message, extra={"code": error.code})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(request, InvalidArgument(sentence(error.errors())))


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return answer(request, NotFound(f"there is no {request.method} {request.url.path[:200]} in this API"))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow", "")
        response = answer(request, InvalidArgument(f"{request.method} is not possible here; use {allowed}"), 405)
        response.headers["allow"] = allowed
        return response
    if error.status_code == 400:
        # The framework's own sentence for a body that its JSON parser gave up on.
        return answer(request, InvalidArgument("the body is not JSON that can be read; it may be nested too deeply"))
    return answer(request, InvalidArgument(str(error.detail)), error.status_code)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server's own middleware raises it again after this, and is what logs it.
    return answer(request, internal(request_id_of(request)))
