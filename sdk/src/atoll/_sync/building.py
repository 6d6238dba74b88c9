# Generated from `src/atoll/_async/building.py` by `scripts/unasync.py`: change that, not this.
"""Images and templates on their way: files go up, the log comes back, a failure names the line that asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atoll import _threads as backend
from atoll._sync.http import Call, Http
from atoll._sync.lines import json_lines
from atoll._sync.requests import json_call
from atoll._build_models import BuildLog
from atoll._context import Context
from atoll._errors import AtollError, BuildError, ConnectionFailed
from atoll._image import Image, Origin, Prepared, prepare
from atoll._wire_errors import error_from_response

# A step may be silent for a long time.
LOG_TIMEOUT_S = 4 * 3600.0
UPLOAD_TIMEOUT_S = 1800.0

OnLog = backend.Callback[BuildLog]
OnUpload = backend.Callback[tuple[int, int]]


class Builder:
    """Builds with one daemon. on_log: told of every line. on_upload: of the bytes of files sent, and of all."""

    def __init__(self, http: Http, on_log: OnLog | None = None, on_upload: OnUpload | None = None) -> None:
        self._http = http
        self._on_log = on_log
        self._on_upload = on_upload

    def image(self, image: Image, bounds: Mapping[str, object]) -> str:
        """The name to make sandboxes from; built unless it is there. bounds: runtime and resources.

        When this is interrupted, the daemon ends the build. Raises BuildError, InvalidArgument, OSError.
        """
        prepared = self.ready(image, bounds)
        call = json_call(
            "POST", "/v1/images/build", {**prepared.body, **bounds}, is_safe=True, read_timeout_s=LOG_TIMEOUT_S
        )
        response = self._http.open(call)
        try:
            for line in json_lines(response, "the build"):
                if "error" in line:
                    raise build_error(error_from_response(500, json.dumps(line).encode()), prepared.origins)
                if "log" in line:
                    self.told(BuildLog.from_json(line["log"]))
                if "template" in line:
                    return str(line["template"])
        finally:
            response.close()
        raise ConnectionFailed("the connection broke before the image was built; try again to go on")

    def ready(self, image: Image, bounds: Mapping[str, object]) -> Prepared:
        """What is sent for `image`, once its files are there and what it is built on is."""
        prepared = backend.run_blocking(prepare, image)
        if prepared.below is not None:
            prepared.body["base"] = {"template": self.image(prepared.below, bounds)}
        for context in prepared.contexts:
            self._upload(context)
        return prepared

    def told(self, entry: BuildLog) -> None:
        """Hand on a line."""
        if self._on_log is not None:
            backend.call(self._on_log, entry)

    def _upload(self, context: Context) -> None:
        path = f"/v1/build-files/{context.name}"
        there = self._http.json(Call("GET", path, is_safe=True))
        if isinstance(there, dict) and there.get("present"):
            return
        call = Call(
            "PUT",
            path,
            headers={"content-type": "application/octet-stream"},
            content=self._pieces(context),
            read_timeout_s=UPLOAD_TIMEOUT_S,
        )
        self._http.json(call)

    def _pieces(self, context: Context) -> Iterator[bytes]:
        done = [0, context.size_bytes]
        told = -1

        def count(sent: int, total: int) -> None:
            done[:] = [sent, total]

        pieces = context.packed(count)
        while (piece := backend.run_blocking(next, pieces, None)) is not None:
            yield piece
            if self._on_upload is not None and done[0] != told:
                told = done[0]
                backend.call(self._on_upload, (done[0], done[1]))


def build_error(error: AtollError, origins: Sequence[Origin]) -> AtollError:
    """`error` as a BuildError when it is one of a step; `origins`: of the steps, in order."""
    step = error.details.get("step")
    if not isinstance(step, str):
        return error
    code, lines = error.details.get("exit_code"), error.details.get("last_lines")
    return failed(
        error.message,
        step,
        code if isinstance(code, int) else None,
        [str(line) for line in lines] if isinstance(lines, list) else (),
        origins,
        request_id=error.request_id,
        details=error.details,
    )


def failed(
    message: str,
    step: str | None,
    exit_code: int | None,
    last_lines: Sequence[str],
    origins: Sequence[Origin],
    **more: Any,
) -> BuildError:
    """The error of a failed build, with the user's own line where there is one."""
    origin = origins[int(step) - 1] if step is not None and step.isdecimal() and 0 < int(step) <= len(origins) else None
    if origin is not None:
        how = "failed" if exit_code is None else "was ended by a signal" if exit_code < 0 else f"ended with {exit_code}"
        said = "".join(f"\n  {line}" for line in last_lines)
        # A failure without a command has its reason in the message, and nothing that it said.
        why = said if exit_code is not None else f": {message}"
        message = f"{origin}: .{origin.call} {how}{why}"
    return BuildError(
        message,
        step=step,
        command=None if origin is None else origin.call,
        exit_code=exit_code,
        last_lines=last_lines,
        where=None if origin is None else str(origin),
        **more,
    )
