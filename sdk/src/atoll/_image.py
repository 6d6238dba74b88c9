"""What a sandbox contains, written down where it is used: `Image.debian().apt("git").pip("numpy")`.

An image is a value: every call gives a new one and changes nothing. It is built when a sandbox is first made of it, in
layers that are kept; the same image again is there at once.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atoll._context import Context, read_context, read_file, read_ignore
from atoll._errors import InvalidArgument
from atoll._ignore import Ignore

MAX_DOCKERFILE_BYTES = 1024 * 1024

_PACKAGE = Path(__file__).resolve().parent
_READS_FILES = re.compile(r"^[ \t]*(?:COPY|ADD)\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """The call that asked for a step."""

    file: str
    line: int
    call: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class _Step:
    body: Mapping[str, object]
    origin: Origin
    source: str | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Dockerfile:
    path: str
    context: str | None
    target: str | None
    args: Mapping[str, str]


@dataclass(frozen=True)
class Prepared:
    """An image as the daemon is told it. `body`: of the request. `contexts`: to be uploaded. `origins`: of its steps,
    in order. `below`: the image to be built first, whose name is the base."""

    body: dict[str, Any]
    contexts: Sequence[Context]
    origins: Sequence[Origin]
    below: Image | None = None


@dataclass(frozen=True)
class Image:
    """What a sandbox contains. Begun with `debian`, `base`, `template`, `registry` or `dockerfile`.

    Steps run as root in `/` until `user` and `workdir` say otherwise (over an image of a registry: as it says), one
    after the other, each over the files of those before it, and are kept as layers until one of them changes. `copy`
    looks at the files when it is built, not when it is called.
    """

    _base: Mapping[str, object] | _Dockerfile
    _steps: tuple[_Step, ...] = ()
    _secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    _login: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def base(cls) -> Image:
        """The machine's own template: Debian or Ubuntu with Python, Node, git and a compiler; needs no registry."""
        return cls({"template": "base"})

    @classmethod
    def debian(cls, release: str | None = None) -> Image:
        """Debian. release: like "12" or "bookworm-slim", from Docker Hub; None: the machine's own, `Image.base()`,
        which is Ubuntu on a machine with Ubuntu."""
        return cls.base() if release is None else cls.registry(f"debian:{release}")

    @classmethod
    def template(cls, name: str) -> Image:
        """A template of the project or of the machine; `name:tag` is a version."""
        return cls({"template": name})

    @classmethod
    def registry(cls, reference: str, *, username: str | None = None, password: str | None = None) -> Image:
        """An image of a registry: "python:3.13", "registry.example/owner/app@sha256:...". Pulled when it is not there.
        username and password (or a token) are used for that, and kept nowhere."""
        if (username is None) != (password is None):
            raise InvalidArgument("username and password belong together: give both, or neither")
        login = None if username is None or password is None else (username, password)
        return cls({"image": reference}, _login=login)

    @classmethod
    def dockerfile(
        cls,
        path: str | os.PathLike[str] = "Dockerfile",
        *,
        context: str | os.PathLike[str] | None = None,
        target: str | None = None,
        args: Mapping[str, str] | None = None,
    ) -> Image:
        """What a Dockerfile builds. context: the directory it copies from; None: the one it lies in. target: the stage
        that comes out. args: for its ARGs; they are no secrets."""
        directory = None if context is None else os.path.abspath(context)
        return cls(_Dockerfile(os.path.abspath(path), directory, target, dict(args or {})))

    def apt(self, *packages: str) -> Image:
        """Install packages of Debian or Ubuntu: "git", "curl=7.88*"."""
        body = {"run": _apt(_words(packages)), "user": "root", "envs": {"DEBIAN_FRONTEND": "noninteractive"}}
        return self._with(body, "apt", packages)

    def pip(
        self, *packages: str, requirements: str | os.PathLike[str] | None = None, index_url: str | None = None
    ) -> Image:
        """Install Python packages: "numpy", "torch==2.9.*", or those of a requirements file. pip is installed with apt
        where it is missing."""
        listed = None if requirements is None else Path(requirements).read_text(encoding="utf-8")
        if listed is None and not packages:
            raise InvalidArgument("there is nothing to install: name a package, or requirements")
        index = "" if index_url is None else f" --index-url {shlex.quote(index_url)}"
        wanted = " ".join(map(shlex.quote, packages)) + ("" if listed is None else " -r /dev/stdin")
        command = (
            f"{{ python3 -m pip --version || {{ {_apt('python3-pip')}; }}; }} </dev/null >/dev/null && "
            f"python3 -m pip install --no-cache-dir --root-user-action ignore{index} {wanted.strip()}"
        )
        envs = {"PIP_BREAK_SYSTEM_PACKAGES": "1", "DEBIAN_FRONTEND": "noninteractive"}
        body: dict[str, object] = {"run": command, "user": "root", "envs": envs}
        if listed is not None:
            body["stdin"] = listed
        shown = packages if requirements is None else (*packages, f"-r {os.fspath(requirements)}")
        return self._with(body, "pip", shown)

    def npm(self, *packages: str) -> Image:
        """Install Node packages for everybody: "typescript", "prettier@3"."""
        return self._with({"run": f"npm install --global {_words(packages)}", "user": "root"}, "npm", packages)

    def run(
        self,
        *commands: str,
        user: str | None = None,
        envs: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        internet: bool = True,
    ) -> Image:
        """Run commands by `/bin/sh`, one step each. envs: variables of these commands only. secrets: names given by
        `secret`; the commands have them as variables, and no layer has them. internet False: without any."""
        image = self
        if not commands:
            raise InvalidArgument("there is no command to run")
        for command in commands:
            body: dict[str, object] = {"run": command, "network": internet}
            if user is not None:
                body["user"] = user
            if envs:
                body["envs"] = dict(envs)
            if secrets:
                body["secrets"] = [{"id": name, "env": name} for name in secrets]
            image = image._with(body, "run", (command,))
        return image

    def copy(
        self,
        source: str | os.PathLike[str],
        target: str,
        *,
        owner: str | None = None,
        mode: int | None = None,
        exclude: Sequence[str] = (),
    ) -> Image:
        """Copy a local file, or all that is in a local directory, to `target`. A file goes into a `target` that ends
        with `/`. A `.dockerignore` in the directory holds; exclude: patterns of the same form. owner: "user" or
        "user:group", root when left out. mode: like 0o755; None: as it is."""
        body: dict[str, object] = {"to": target}
        if owner is not None:
            body["owner"] = owner
        if mode is not None:
            body["mode"] = f"{mode:04o}"
        shown = (os.fspath(source), target)
        return self._with(body, "copy", shown, source=os.path.abspath(source), exclude=tuple(exclude))

    def env(self, envs: Mapping[str, str] | None = None, /, **more: str) -> Image:
        """Variables of all later steps and of the sandboxes: `env({"A": "1"})` or `env(A="1")`; taken as they are."""
        both = {**(envs or {}), **more}
        return self._with({"env": both}, "env", tuple(both))

    def workdir(self, path: str) -> Image:
        """The directory of later steps and of the sandboxes; made when it is missing."""
        return self._with({"workdir": path}, "workdir", (path,))

    def user(self, name: str) -> Image:
        """Who runs later steps and the commands in the sandboxes."""
        return self._with({"user": name}, "user", (name,))

    def secret(self, name: str, value: str) -> Image:
        """A value that `run(secrets=[name])` has as a variable. It goes to the daemon with a build and is kept nowhere;
        another value does not build anew."""
        return replace(self, _secrets={**self._secrets, name: value})

    def __repr__(self) -> str:
        base = self._base
        if isinstance(base, _Dockerfile):
            begun = f"dockerfile({base.path!r})"
        else:
            kind, name = next(iter(base.items()))
            begun = f"{'registry' if kind == 'image' else kind}({name!r})"
        return ".".join((f"Image.{begun}", *(step.origin.call for step in self._steps)))

    def _with(
        self,
        body: Mapping[str, object],
        name: str,
        shown: Sequence[str],
        *,
        source: str | None = None,
        exclude: tuple[str, ...] = (),
    ) -> Image:
        call = f"{name}({', '.join(map(repr, shown))})"
        origin = _origin(call)
        step = _Step({"text": call, **body}, origin, source, exclude)
        return replace(self, _steps=(*self._steps, step))


def prepare(image: Image) -> Prepared:
    """What is sent and uploaded for `image`; reads the files that it copies. Raises InvalidArgument, OSError."""
    body: dict[str, Any] = {}
    contexts: list[Context] = []
    below = None
    if image._secrets:
        body["secrets"] = dict(image._secrets)
    if image._login is not None:
        body["registry"] = dict(zip(("username", "password"), image._login, strict=True))
    base = image._base
    if isinstance(base, _Dockerfile) and not image._steps:
        body |= _dockerfile_body(base, contexts)
        return Prepared(body, contexts, ())
    if isinstance(base, _Dockerfile):
        below = replace(image, _steps=())
    else:
        body["base"] = dict(base)
    body["steps"] = [_step_body(step, contexts) for step in image._steps]
    return Prepared(body, contexts, [step.origin for step in image._steps], below)


def _dockerfile_body(base: _Dockerfile, contexts: list[Context]) -> dict[str, Any]:
    path = Path(base.path)
    if path.stat().st_size > MAX_DOCKERFILE_BYTES:
        raise InvalidArgument(f"{path} has more than {MAX_DOCKERFILE_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not UTF-8 text") from None
    body: dict[str, Any] = {"dockerfile": text}
    if base.target is not None:
        body["target"] = base.target
    if base.args:
        body["args"] = dict(base.args)
    # A context that nothing is copied of is not worth looking at.
    if _READS_FILES.search(text):
        directory = path.parent if base.context is None else Path(base.context)
        contexts.append(read_context(directory, read_ignore(directory, path)))
        body["context"] = contexts[-1].name
    return body


def _step_body(step: _Step, contexts: list[Context]) -> Mapping[str, object]:
    if step.source is None:
        return step.body
    source = Path(step.source)
    try:
        if source.is_dir():
            kept = read_ignore(source)
            excluded = Ignore(step.exclude, "exclude")
            context = read_context(source, kept.and_not(excluded))
            copied = "."
        else:
            context = read_file(source)
            copied = context.entries[0].path
    except OSError as error:
        raise InvalidArgument(f"{step.origin}: {step.origin.call}: {error.strerror}: {step.source!r}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{step.origin}: {step.origin.call}: {error.message}") from None
    contexts.append(context)
    return {**step.body, "copy": [copied], "files": context.name}


def _apt(words: str) -> str:
    return f"apt-get update && apt-get install -y --no-install-recommends {words} && rm -rf /var/lib/apt/lists/*"


def _words(packages: Sequence[str]) -> str:
    if not packages:
        raise InvalidArgument("there is nothing to install: name a package")
    for package in packages:
        if not package or package.startswith("-"):
            raise InvalidArgument(f"{package!r} is not a package")
    return " ".join(map(shlex.quote, packages))


def _origin(call: str) -> Origin:
    """Where the user's code called: the first frame that is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == _PACKAGE:
        frame = frame.f_back
    return Origin(frame.f_code.co_filename, frame.f_lineno, call if len(call) <= 200 else f"{call[:197]}...")
