"""RUN: what is run, with which secrets, and with or without a network."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from atolld.core.build import CacheMount, Run, SecretMount, Sharing, Where
from atolld.images.dockerfile.failing import quoted
from atolld.images.dockerfile.flags import is_true, read_fields, read_flags
from atolld.images.dockerfile.scope import Scope
from atolld.images.dockerfile.steplist import check_argv
from atolld.images.dockerfile.syntax import Instruction

_FLAGS = ("mount", "network", "security", "device")
_SECRET_FIELDS = frozenset({"type", "id", "target", "dst", "destination", "env", "required", "mode", "uid", "gid"})
_CACHE_FIELDS = frozenset(
    {"type", "id", "target", "dst", "destination", "sharing", "readonly", "ro", "mode", "uid", "gid"}
    # Told what to do instead.
    | {"from", "source", "src"}
)
_MAX_MOUNTS = 32

_REFUSED_MOUNTS = {
    "bind": "bind mounts are not there: COPY the files first; a later stage can leave them behind",
    "ssh": "an agent's keys are not lent to builds: give the key as a secret (--mount=type=secret)",
}

# The script goes to memory: /dev/shm is no part of a layer, and programs may be run from it.
_SCRIPT = 'cat >"$0" && chmod 0755 "$0" && exec "$0" </dev/null'


def run_step(instruction: Instruction, where: Where, scope: Scope, shell: tuple[str, ...], *, lenient: bool) -> Run:
    """The step of a RUN. `lenient`: variables are not known yet, so fields with a `$` are not judged.

    Raises ValueError.
    """
    flags = read_flags(instruction.flags, _FLAGS, repeatable=("mount",))
    for name, reason in (
        ("security", "a step has the rights that its sandbox has, and no more: leave it out"),
        ("device", "there are no devices in a sandbox: leave it out"),
    ):
        if name in flags:
            raise ValueError(f"--{name} is not supported: {reason}")
    argv, stdin = _command(instruction, shell)
    check_argv(argv)
    mounts = flags.get("mount", [])
    if len(mounts) > _MAX_MOUNTS:
        raise ValueError(f"{len(mounts)} mounts are too many: {_MAX_MOUNTS} are the most")
    secrets, memory, caches = [], [], []
    for mount in mounts:
        fields = read_fields(mount)
        kind = fields.get("type", "bind")
        if kind == "secret":
            secrets.append(_secret(fields, scope, lenient=lenient))
        elif kind == "tmpfs":
            memory.append(_memory_target(fields, scope))
        elif kind == "cache":
            caches.append(_cache(fields, scope))
        elif kind in _REFUSED_MOUNTS:
            raise ValueError(f"--mount=type={kind} is not supported: {_REFUSED_MOUNTS[kind]}")
        else:
            raise ValueError(f"--mount has no type {quoted(kind)}: there are secret, cache and tmpfs")
    return Run(
        where,
        argv,
        envs=scope.of_command(),
        secrets=tuple(secrets),
        stdin=stdin,
        network=_network(flags.get("network", ["default"])[0]),
        memory=tuple(dict.fromkeys(memory)),
        caches=tuple({cache.target: cache for cache in caches}.values()),
    )


def _command(instruction: Instruction, shell: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    if instruction.json:
        return instruction.args, None
    command = instruction.args[0] if instruction.args else ""
    heredocs = instruction.heredocs
    if not heredocs:
        return (*shell, command) if command else (), None
    # Nothing but the mark of one heredoc: it is the script itself.
    if len(heredocs) == 1 and command.lstrip("0123456789<-\t \"'").rstrip("\"'") == heredocs[0].name:
        script = heredocs[0].contents
        if script.startswith("#!"):
            return ("/bin/sh", "-c", _SCRIPT, "/dev/shm/.atoll-heredoc"), script
        return (*shell, script), None
    documents = "".join(f"\n{one.contents}{one.name}" for one in heredocs)
    return (*shell, f"{command}{documents}\n"), None


def _network(value: str) -> bool:
    if value in ("default", "none"):
        return value == "default"
    if value == "host":
        raise ValueError("--network=host is not supported: a step never sees the host's network")
    raise ValueError(f"--network is 'default' or 'none', not {quoted(value)}")


def _secret(fields: Mapping[str, str], scope: Scope, *, lenient: bool) -> SecretMount:
    unknown = sorted(set(fields) - _SECRET_FIELDS)
    if unknown:
        raise ValueError(f"a secret has no field {quoted(unknown[0])}: there are {', '.join(sorted(_SECRET_FIELDS))}")
    target = next((scope.word(fields[name]) for name in ("target", "dst", "destination") if fields.get(name)), None)
    env = fields.get("env") or None
    id = scope.word(fields.get("id", "")) or (posixpath.basename(target) if target else "")
    if not id:
        raise ValueError("a secret has no id: write --mount=type=secret,id=<name>")
    if target is not None and not target.startswith("/") and not (lenient and target.startswith("$")):
        target = f"/run/secrets/{target}"
    return SecretMount(
        id,
        target,
        env,
        required=is_true(fields.get("required", "false"), "required"),
        uid=_number(fields.get("uid", "0"), 10, "uid"),
        gid=_number(fields.get("gid", "0"), 10, "gid"),
        mode=_number(fields.get("mode", "0400"), 8, "mode"),
    )


def _memory_target(fields: Mapping[str, str], scope: Scope) -> str:
    target = next((scope.word(fields[name]) for name in ("target", "dst", "destination") if fields.get(name)), "")
    if not target:
        raise ValueError("a mount has no target: write target=<directory>")
    if "from" in fields or "source" in fields or "src" in fields:
        raise ValueError("what is mounted begins without the files of an image: leave its 'from' and 'source' out")
    return target


def _cache(fields: Mapping[str, str], scope: Scope) -> CacheMount:
    unknown = sorted(set(fields) - _CACHE_FIELDS)
    if unknown:
        raise ValueError(f"a cache has no field {quoted(unknown[0])}: there are {', '.join(sorted(_CACHE_FIELDS))}")
    target = _memory_target(fields, scope)
    sharing = fields.get("sharing", Sharing.SHARED.value)
    if sharing not in list(Sharing):
        raise ValueError(f"a cache's sharing is {', '.join(Sharing)}, not {quoted(sharing)}")
    readonly = next((fields[name] for name in ("readonly", "ro") if name in fields), "false")
    return CacheMount(
        scope.word(fields.get("id", "")) or posixpath.normpath(target),
        target,
        Sharing(sharing),
        readonly=is_true(readonly, "readonly"),
        uid=_number(fields.get("uid", "0"), 10, "uid"),
        gid=_number(fields.get("gid", "0"), 10, "gid"),
        mode=_number(fields.get("mode", "0755"), 8, "mode"),
    )


def _number(text: str, base: int, what: str) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number < (0o10000 if base == 8 else 1 << 32) or not text.isalnum():
        raise ValueError(f"{what} {quoted(text)} is not a number that can be used")
    return number
