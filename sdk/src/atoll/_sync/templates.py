# Generated from `src/atoll/_async/templates.py` by `scripts/unasync.py`: change that, not this.
"""Templates: built ahead, with versions and tags, and started from by their names."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from atoll._sync.building import LOG_TIMEOUT_S, Builder, OnLog, OnUpload, failed
from atoll._sync.http import Call, Http
from atoll._sync.lines import json_lines
from atoll._sync.requests import checked_id, items, json_call
from atoll._build_models import BuildInfo, BuildLog, TemplateInfo, tags_from_json
from atoll._errors import AtollError, Internal, InvalidArgument, NotFound
from atoll._image import Image, Origin


class Templates:
    """The project's templates, and the machine's own.

    A template has a name (`a-z 0-9 . _ -`), and each build of it is a version. `name:tag` means the one that the tag
    points to, `name` the one of the tag `default`, which builds without tags get, and `name:<id of a build>` that one.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def build(  # noqa: PLR0913 - keyword-only: plain facts about one template read best in one call
        self,
        name: str,
        source: Image | str | os.PathLike[str],
        *,
        tags: Sequence[str] = (),
        runtime: str | None = None,
        cpu: float | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        pids_max: int | None = None,
        start_command: str | None = None,
        ready_command: str | None = None,
        public: bool | None = None,
        force: bool = False,
        wait: bool = True,
        on_log: OnLog | None = None,
        on_upload: OnUpload | None = None,
        secrets: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> BuildInfo:
        """Build a new version of the template `name`, which is made when it is new; returns it, ready.

        source: an `Image`, the path of a Dockerfile, or of a directory with one. tags: point to it once it is ready;
        none: `default`. runtime, cpu (cores), memory_mib, disk_mib, pids_max: of its steps and of sandboxes that ask
        for none. start_command: started at the end and running in every sandbox; its memory is saved once
        ready_command ends with 0. public: every project may start from it; None leaves it. force: nothing from the
        cache. wait False: return while it builds. on_log, on_upload: told of lines, and of bytes sent and to send.
        secrets: for `RUN --mount=type=secret`. login: name and password for the registry of its base images.

        Interrupted while it waits, it cancels the build. Raises BuildError when a step fails, InvalidArgument, OSError.
        """
        image = source if isinstance(source, Image) else _from_path(source)
        bounds = _given(runtime=runtime, cpu=cpu, memory_mib=memory_mib, disk_mib=disk_mib, pids_max=pids_max)
        builder = Builder(self._http, on_log, on_upload)
        prepared = builder.ready(image, bounds)
        asked = {"name": name, "tags": list(tags), **bounds, **_given(public=public)}
        new = self._http.json(json_call("POST", "/v1/templates", asked, is_safe=False))
        path = _build_path(_text(new, "template_id"), _text(new, "build_id"))
        body = prepared.body | _given(start_command=start_command, ready_command=ready_command, force=force or None)
        if secrets:
            body["secrets"] = {**body.get("secrets", {}), **secrets}
        if login is not None:
            body["registry"] = {"username": login[0], "password": login[1]}
        try:
            started = BuildInfo.from_json(self._http.json(json_call("POST", path, body, is_safe=False)))
            if not wait:
                return started
            return self._finished(started, builder, prepared.origins)
        except Exception:
            raise
        except BaseException:
            self._abandon(path)
            raise

    def build_builtin(
        self,
        name: str = "code-interpreter-v1",
        *,
        languages: Sequence[str] = (),
        wait: bool = True,
        on_log: OnLog | None = None,
    ) -> BuildInfo:
        """Build a template that comes with the daemon into the project; returns it, ready.

        languages: of the code interpreter, those beyond the default ones. What was built before, for any project, is in
        the daemon's cache. Otherwise as `build`. Raises NotFound when there is none of that name.
        """
        path = f"/v1/templates/builtin/{quote(name, safe='')}"
        new = self._http.json(json_call("POST", path, {"languages": [*languages]}, is_safe=False))
        template_id, build_id = _text(new, "template_id"), _text(new, "build_id")
        try:
            started = self.build_info(template_id, build_id)
            return self._finished(started, Builder(self._http, on_log), ()) if wait else started
        except Exception:
            raise
        except BaseException:
            self._abandon(_build_path(template_id, build_id))
            raise

    def list(self) -> Sequence[TemplateInfo]:
        """All: the machine's own, then the project's."""
        return [TemplateInfo.from_json(one) for one in self._pages("/v1/templates")]

    def get(self, name: str) -> TemplateInfo:
        """One, by name or id; another project's public one as `<project>/<name>`. Raises NotFound."""
        return TemplateInfo.from_json(self._http.json(Call("GET", template_path(name), is_safe=True)))

    def versions(self, name: str) -> Sequence[BuildInfo]:
        """All builds of it, newest first. Raises NotFound."""
        return [BuildInfo.from_json(one) for one in self._pages(template_path(name, "/builds"))]

    def tags(self, name: str) -> Mapping[str, str]:
        """Its tags: name to the id of a build. Raises NotFound."""
        found = self._http.json(Call("GET", template_path(name, "/tags"), is_safe=True))
        return tags_from_json(items(found))

    def tag(self, name: str, *tags: str, build: str | None = None) -> None:
        """Let tags point to a version, wherever they were. build: an id or a tag; None: `default`. Raises NotFound."""
        body = {"tags": [*tags], **_given(build=build)}
        self._http.json(json_call("POST", template_path(name, "/tags"), body, is_safe=True))

    def untag(self, name: str, *tags: str) -> None:
        """Remove tags; their versions stay. Raises NotFound."""
        self._http.json(json_call("DELETE", template_path(name, "/tags"), {"tags": [*tags]}, is_safe=True))

    def publish(self, name: str) -> TemplateInfo:
        """Let every project start from it, as `<project>/<name>`. Raises NotFound."""
        return self._change(name, public=True)

    def unpublish(self, name: str) -> TemplateInfo:
        """Keep it to the project. Raises NotFound."""
        return self._change(name, public=False)

    def delete(self, name: str) -> bool:
        """Delete it with all versions; sandboxes of it go on. False when it was gone."""
        try:
            self._http.json(Call("DELETE", template_path(name), is_safe=True))
        except NotFound:
            return False
        return True

    def build_info(self, template_id: str, build_id: str) -> BuildInfo:
        """How a build stands. Raises NotFound."""
        return BuildInfo.from_json(
            self._http.json(Call("GET", _build_path(template_id, build_id), is_safe=True))
        )

    def logs(
        self, template_id: str, build_id: str, *, offset: int = 0, follow: bool = False
    ) -> Iterator[BuildLog]:
        """What a build said, from the line `offset` on; follow: until it has ended. Raises NotFound."""
        params = {"offset": str(offset), "follow": "true" if follow else "false"}
        path = f"{_build_path(template_id, build_id)}/logs"
        call = Call("GET", path, params=params, read_timeout_s=LOG_TIMEOUT_S, is_safe=True)
        response = self._http.open(call)
        try:
            for line in json_lines(response, "the log"):
                yield BuildLog.from_json(line)
        finally:
            response.close()

    def cancel(self, template_id: str, build_id: str) -> None:
        """End a build; steps that were done stay in the cache. One that has ended stays as it is. Raises NotFound."""
        self._http.json(Call("DELETE", _build_path(template_id, build_id), is_safe=True))

    def wait(self, template_id: str, build_id: str, *, on_log: OnLog | None = None) -> BuildInfo:
        """The build, once it is ready. on_log: told of all its lines. Raises BuildError when it failed, NotFound."""
        info = self.build_info(template_id, build_id)
        return self._finished(info, Builder(self._http, on_log), ())

    def _finished(self, build: BuildInfo, builder: Builder, origins: Sequence[Origin]) -> BuildInfo:
        for entry in self.logs(build.template_id, build.id, follow=True):
            builder.told(entry)
        info = self.build_info(build.template_id, build.id)
        if info.failure is not None:
            one = info.failure
            raise failed(one.message, one.step, one.exit_code, one.last_lines, origins)
        return info

    def _abandon(self, path: str) -> None:
        try:
            self._http.json(Call("DELETE", path, is_safe=True))
        except AtollError:
            # The interruption is what the caller is told of.
            return

    def _change(self, name: str, *, public: bool) -> TemplateInfo:
        call = json_call("PATCH", template_path(name), {"public": public}, is_safe=True)
        return TemplateInfo.from_json(self._http.json(call))

    def _pages(self, path: str) -> builtins.list[Any]:
        found: builtins.list[Any] = []
        cursor: str | None = None
        while True:
            params = {"limit": "100"} if cursor is None else {"limit": "100", "cursor": cursor}
            page = self._http.json(Call("GET", path, params=params, is_safe=True))
            found += items(page)
            cursor = page.get("next_cursor") if isinstance(page, dict) else None
            if not cursor:
                return found


def template_path(name: str, rest: str = "") -> str:
    """The daemon's path of a template. Raises NotFound for an empty name, which would be the path of all."""
    if not name.strip("."):
        raise NotFound(f"there is no template {name!r}")
    return f"/v1/templates/{quote(name, safe='')}{rest}"


def _build_path(template_id: str, build_id: str) -> str:
    return f"/v1/templates/{checked_id(template_id, 'template')}/builds/{checked_id(build_id, 'build')}"


def _from_path(source: str | os.PathLike[str]) -> Image:
    path = os.fspath(source)
    file = os.path.join(path, "Dockerfile") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise InvalidArgument(f"there is no Dockerfile at {path!r}: give its path, or that of its directory")
    return Image.dockerfile(file)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _text(answer: Any, name: str) -> str:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, str):
        raise Internal(f"the daemon's answer has no {name}")
    return found
