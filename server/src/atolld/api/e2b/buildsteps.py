"""E2B's steps as those of a plan. Pure.

Steps are translated twice: when the build is asked for, to refuse what is wrong, and once the variables of the base are
known, since `PATH=/opt/bin:$PATH` depends on them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atolld.api.e2b.buildrequests import BuildStep
from atolld.api.e2b.expansion import expand, refers
from atolld.api.e2b.provisioning import HOME, USER, ensure_user
from atolld.core.build import MAX_STEPS, Copy, Env, Run, Step, User, Where, Workdir
from atolld.core.sandbox import check_envs
from atolld.foundation.errors import InvalidArgument

MAX_PATH = 4096
# What Linux takes as one argument of a program, less its end.
MAX_COMMAND_BYTES = 128 * 1024 - 1
MAX_SHOWN = 1000

_FILES_HASH = re.compile(r"[0-9a-f]{64}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10}")
_MODE = re.compile(r"[0-7]{1,4}")
_GLOB = re.compile(r"[*?\[{]")
# The command as its own argument, so that its quoting and the numbers of its lines stay as they are.
_AT_HOME = ("/bin/sh", "-c", 'cd ~ 2>/dev/null; exec /bin/bash -l -c "$1"', "sh")
_SHELL = ("/bin/bash", "-l", "-c")


@dataclass(slots=True)
class _Walk:
    """How far the steps have come. `envs`: None as long as those of the base are not known. `placed`: whether a
    directory was set; without one, everybody begins at home."""

    envs: dict[str, str] | None
    placed: bool
    user: str = USER
    force: bool = False
    own: dict[str, str] = field(default_factory=dict)

    def value(self, text: str) -> str:
        """`text` with its variables, where they are known."""
        return text if self.envs is None else expand(text, self.envs)

    def open(self, text: str) -> bool:
        """Whether what `text` comes to is not known yet."""
        return self.envs is None and refers(text)


def translate(
    steps: Sequence[BuildStep], *, placed: bool, force: bool, envs: Mapping[str, str] | None
) -> tuple[Step, ...]:
    """`steps` as those of a plan, numbered from 1; how many there are does not depend on `envs`.

    `placed`: whether the base has set a directory. `force`: nothing is taken from the cache; a step that is forced
    forces all that follow. Raises InvalidArgument that names the step.
    """
    if len(steps) > MAX_STEPS:
        raise InvalidArgument(f"there are {len(steps)} steps; at most {MAX_STEPS} are allowed")
    walk = _Walk(None if envs is None else dict(envs), placed, force=force)
    found: list[Step] = []
    for number, step in enumerate(steps, 1):
        kind = step.type.upper()
        where = Where(number, 0, _shown(kind, step.args))
        walk.force = walk.force or step.force is True
        try:
            make = _KINDS.get(kind)
            if make is None:
                raise InvalidArgument(f"{step.type[:40]!r} is not known; {', '.join(_KINDS)} are")
            for argument in step.args:
                _plain(argument)
            found += make(walk, step, where)
        except InvalidArgument as error:
            raise InvalidArgument(f"step {number} ({where.text[:80]}): {error.message}", step=str(number)) from None
    return tuple(found)


def _run(walk: _Walk, step: BuildStep, where: Where) -> list[Step]:
    command, user = _arguments(step, 1, 2)
    if not command.strip():
        raise InvalidArgument("RUN needs a command")
    if len(command.encode()) > MAX_COMMAND_BYTES:
        raise InvalidArgument(
            f"the command has {len(command.encode())} bytes; at most {MAX_COMMAND_BYTES} fit: COPY it as a script"
        )
    argv = (*(_SHELL if walk.placed else _AT_HOME), command)
    return [Run(where, argv, user=_user(user) if user else None, force=walk.force)]


def _copy(walk: _Walk, step: BuildStep, where: Where) -> list[Step]:
    source, destination, owner, mode = _arguments(step, 2, 4)
    if step.filesHash is None or not _FILES_HASH.fullmatch(step.filesHash):
        raise InvalidArgument("COPY needs filesHash, the SHA-256 in 64 lower-case hex digits that its files are under")
    if mode and not _MODE.fullmatch(mode):
        raise InvalidArgument(f"the mode {mode[:20]!r} is not octal, as 0755 is")
    return [
        Copy(
            where,
            (_source(source),),
            _destination(walk, destination),
            origin=step.filesHash,
            owner=_owner(walk, owner),
            mode=int(mode, 8) if mode else None,
            follow=False,
            force=walk.force,
        )
    ]


def _env(walk: _Walk, step: BuildStep, where: Where) -> list[Step]:
    if not step.args or len(step.args) % 2:
        raise InvalidArgument("ENV needs pairs of a name and a value")
    envs: dict[str, str] = {}
    for name, value in zip(step.args[::2], step.args[1::2], strict=True):
        envs[name] = walk.value(value)
        if walk.envs is not None:
            walk.envs[name] = envs[name]
    walk.own |= envs
    check_envs(walk.own)
    return [Env(where, envs)]


def _workdir(walk: _Walk, step: BuildStep, where: Where) -> list[Step]:
    path = walk.value(_arguments(step, 1, 1)[0])
    _path(path, "the directory")
    walk.placed = True
    return [Workdir(where, path)]


def _set_user(walk: _Walk, step: BuildStep, where: Where) -> list[Step]:
    raw, sudo = _arguments(step, 1, 2)
    user = walk.value(raw)
    if not walk.open(raw):
        _user(user)
    walk.user = user
    name = user.partition(":")[0]
    # These are there, and a number needs no name.
    if not refers(raw) and (name in ("root", USER) or name.isdigit()):
        return [User(where, user)]
    return [ensure_user(where, name, sudo == "true", walk.force), User(where, user)]


_KINDS: Mapping[str, Callable[[_Walk, BuildStep, Where], list[Step]]] = {
    "COPY": _copy,
    "RUN": _run,
    "ENV": _env,
    "WORKDIR": _workdir,
    "USER": _set_user,
}


def _arguments(step: BuildStep, least: int, most: int) -> list[str]:
    """The arguments, with empty ones for those that were left out."""
    if len(step.args) < least or not step.args[0]:
        raise InvalidArgument(f"{step.type.upper()} needs {least} argument{'s' if least > 1 else ''}")
    return [*step.args[:most], *[""] * (most - len(step.args))]


def _source(text: str) -> str:
    """The part of a pattern before what is one: the client uploads what matches, below its own directories."""
    parts = posixpath.normpath(text).split("/")
    if text.startswith("/") or parts[0] == "..":
        raise InvalidArgument(f"the source {text[:80]!r} is not within the directory of files")
    fixed = next((index for index, part in enumerate(parts) if _GLOB.search(part)), len(parts))
    return "/".join(parts[:fixed]) or "."


def _destination(walk: _Walk, raw: str) -> str:
    path = walk.value(raw)
    if walk.open(raw):
        return path
    _path(path, "the destination")
    if path == "." or path.endswith("/."):
        path += "/"
    if path.startswith("/") or walk.placed:
        return path
    return posixpath.join(_home(walk.user), path)


def _home(user: str) -> str:
    name = user.partition(":")[0]
    if name == USER:
        return HOME
    return "/root" if name == "root" else "/" if name.isdigit() else f"/home/{name}"


def _owner(walk: _Walk, raw: str) -> str | None:
    owner = walk.value(raw) or walk.user
    if not walk.open(owner):
        _user(owner)
    return None if owner == "root" else owner


def _user(text: str) -> str:
    parts = text.split(":")
    if len(parts) > 2 or not all(_USER.fullmatch(part) for part in parts):
        raise InvalidArgument(f"{text[:80]!r} is not a user: a name or a number, and a group behind ':', are expected")
    return text


def _path(text: str, what: str) -> None:
    if not text or len(text.encode()) > MAX_PATH:
        raise InvalidArgument(f"{what} has {len(text.encode())} bytes; 1 to {MAX_PATH} are expected")


def _plain(text: str) -> None:
    if "\0" in text:
        raise InvalidArgument("an argument holds a NUL byte")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("an argument is not valid text: it holds half of a surrogate pair") from None


def _shown(kind: str, arguments: Sequence[str]) -> str:
    text = " ".join((kind[:40], *(argument[:MAX_SHOWN] for argument in arguments))).rstrip()
    plain = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text[: MAX_SHOWN + 1])
    return plain if len(plain) <= MAX_SHOWN else plain[: MAX_SHOWN - 3] + "..."
