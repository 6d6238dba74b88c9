# Generated from `src/atoll/_async/images.py` by `scripts/unasync.py`: change that, not this.
"""Images: pulled from registries or imported, and started from by their names."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

from atoll import _threads as backend
from atoll._sync.http import Call, Http
from atoll._sync.lines import json_lines
from atoll._sync.requests import SLOW_TIMEOUT_S, items, json_call
from atoll._errors import ConnectionFailed, Internal, NotFound, Timeout
from atoll._wire_errors import error_from_response

# Between two steps a large layer is unpacked, and an archive is read before its first byte is sent.
STEP_TIMEOUT_S = 1800.0
READ_BYTES = 1024 * 1024

OnStep = Callable[[Mapping[str, Any]], None]
OnBytes = Callable[[int], None]


class Images:
    """The project's images. What is returned are the daemon's JSON objects: `name`, `digest`, `platform`, `pulled_at`,
    `size_bytes`, `layers`, `user`, `workdir`, `envs`, `entrypoint`, `cmd`.

    An image's name is what it was pulled by (`debian:12`, `registry.example/owner/app:1`), and can be given as the
    `template` of a sandbox.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> Sequence[Mapping[str, Any]]:
        """All, by name."""
        return items(self._http.json(Call("GET", "/v1/images", is_safe=True)))

    def get(self, name: str) -> Mapping[str, Any]:
        """One. Raises NotFound, InvalidArgument when `name` is no reference."""
        return _object(self._http.json(Call("GET", image_path(name), is_safe=True)))

    def pull(
        self,
        name: str,
        *,
        username: str | None = None,
        password: str | None = None,
        insecure: bool = False,
        on_step: OnStep | None = None,
    ) -> Mapping[str, Any]:
        """Pull an image as far as it is not there, and return it. Interrupted, the next pull goes on from there.

        username, password: for a registry that wants them; the daemon does not keep them. insecure: over plain HTTP.
        on_step: told of each step: `phase` (`resolve`, `wait`, `download`, `unpack`, `present`, `done`), and of a layer
        `layer`, `bytes`, `total_bytes`.

        Raises NotFound, PermissionDenied (by the registry), InvalidArgument (refused, with the reason),
        FailedPrecondition (not made for the daemon's machine), Capacity (disk), Unavailable (the registry).
        """
        wanted = {"reference": name, "username": username, "password": password, "insecure": insecure or None}
        body = {key: value for key, value in wanted.items() if value is not None}
        call = json_call("POST", "/v1/images/pull", body, is_safe=True, read_timeout_s=STEP_TIMEOUT_S)
        response = self._http.open(call)
        try:
            for step in json_lines(response, "the pull"):
                if "error" in step:
                    raise error_from_response(500, json.dumps(step).encode())
                if "image" in step:
                    return _object(step["image"])
                if on_step is not None:
                    on_step(step)
        finally:
            response.close()
        raise ConnectionFailed("the connection broke before the image was complete; pull it again to go on")

    def delete(self, name: str) -> bool:
        """Forget it; what was started from it goes on. False when it was gone already."""
        try:
            self._http.json(Call("DELETE", image_path(name), is_safe=True))
        except NotFound:
            return False
        return True

    def prune(self) -> Sequence[str]:
        """Remove layers that nobody on the machine needs; returns their digests. Raises Unavailable during a pull."""
        call = Call("POST", "/v1/images/prune", read_timeout_s=SLOW_TIMEOUT_S, is_safe=True)
        found = _object(self._http.json(call)).get("layers")
        return [str(digest) for digest in found] if isinstance(found, list) else []

    def import_(
        self, source: str | os.PathLike[str], name: str | None = None, *, on_progress: OnBytes | None = None
    ) -> Mapping[str, Any]:
        """Store the image in the file `source`: what `docker save` writes, or a tar of an OCI layout.

        name: what it is called here; None: as the archive calls it. on_progress: told of the bytes sent so far.
        Raises InvalidArgument (refused, with the reason), NotFound (several images, none of that name), Capacity.
        """
        with backend.run_blocking(_open, source) as file:
            call = Call(
                "POST",
                "/v1/images/import",
                params=None if name is None else {"name": name},
                headers={"content-type": "application/octet-stream"},
                content=_pieces(file, on_progress),
                read_timeout_s=STEP_TIMEOUT_S,
            )
            return _object(self._http.json(call))

    def export(self, name: str, target: str | os.PathLike[str], *, on_progress: OnBytes | None = None) -> int:
        """Write an image (or a template) to the file `target`, as an OCI layout that `docker load` takes, too.

        The file appears whole or not at all. Returns its size in bytes. Raises NotFound, OSError.
        """
        final = Path(target)
        partial = final.with_name(f".{final.name}.{secrets.token_hex(6)}.part")
        call = Call("GET", image_path(name) + "/archive", read_timeout_s=STEP_TIMEOUT_S, is_safe=True)
        response = self._http.open(call)
        try:
            with backend.run_blocking(_create, partial) as file:
                size = _save(response, file, on_progress)
            os.replace(partial, final)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            raise
        finally:
            response.close()
        return size


def image_path(name: str) -> str:
    """The daemon's path of an image. Raises NotFound for an empty name, which would be the path of all."""
    if not name.strip("."):
        raise NotFound(f"there is no image {name!r}")
    return f"/v1/images/{quote(name, safe='')}"


def _save(response: httpx.Response, file: IO[bytes], on_progress: OnBytes | None) -> int:
    size = 0
    try:
        for piece in response.iter_raw():
            size += backend.run_blocking(file.write, piece)
            if on_progress is not None:
                on_progress(size)
    except httpx.TimeoutException as error:
        raise Timeout("the archive stopped coming") from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"the connection broke before the archive was complete: {error}") from error
    return size


def _pieces(file: IO[bytes], on_progress: OnBytes | None) -> Iterator[bytes]:
    sent = 0
    while data := backend.run_blocking(file.read, READ_BYTES):
        sent += len(data)
        yield data
        if on_progress is not None:
            on_progress(sent)


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Internal("the daemon's answer is not a JSON object")
    return answer


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb")


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    return open(path, "rb")
