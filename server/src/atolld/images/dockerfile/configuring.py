"""What an image says of itself: CMD, ENTRYPOINT, SHELL, LABEL, EXPOSE, VOLUME, STOPSIGNAL, HEALTHCHECK."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from atolld.core.build import ImageConfig
from atolld.images.dockerfile.failing import quoted
from atolld.images.dockerfile.flags import read_flags
from atolld.images.dockerfile.scope import Scope
from atolld.images.dockerfile.syntax import Instruction

_MAX_ENTRIES = 1000
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SIGNAL = re.compile(r"(?:SIG)?[A-Z0-9+-]{1,16}", re.IGNORECASE)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_HEALTH_FLAGS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
    "retries": "Retries",
}


def configured(instruction: Instruction, config: ImageConfig, scope: Scope, *, lenient: bool) -> ImageConfig:
    """`config` after `instruction`. `lenient`: words with a `$` are not judged. Raises ValueError."""
    if instruction.name != "HEALTHCHECK":
        read_flags(instruction.flags, ())
    return _HANDLERS[instruction.name](instruction, config, scope, lenient)


def _cmd(instruction: Instruction, config: ImageConfig, _scope: Scope, _lenient: bool) -> ImageConfig:
    return replace(config, cmd=_command(instruction, config))


def _entrypoint(instruction: Instruction, config: ImageConfig, _scope: Scope, _lenient: bool) -> ImageConfig:
    return replace(config, entrypoint=_command(instruction, config))


def _command(instruction: Instruction, config: ImageConfig) -> tuple[str, ...]:
    if instruction.json:
        return instruction.args
    return (*config.shell, instruction.args[0]) if instruction.args else ()


def _shell(instruction: Instruction, config: ImageConfig, _scope: Scope, _lenient: bool) -> ImageConfig:
    if not instruction.json or not instruction.args or not instruction.args[0]:
        raise ValueError('it takes a JSON list: SHELL ["/bin/bash", "-c"]')
    return replace(config, shell=instruction.args)


def pairs(instruction: Instruction, scope: Scope) -> dict[str, str]:
    """Names and values of an ENV or LABEL; all see the variables as they are before it. Raises ValueError."""
    if not instruction.args:
        raise ValueError(f"it names nothing: write {instruction.name} <name>=<value>")
    found = {}
    for at in range(0, len(instruction.args), 3):
        name = scope.word(instruction.args[at])
        if not name:
            raise ValueError(f"a name is empty: write {instruction.name} <name>=<value>")
        found[name] = scope.word(instruction.args[at + 1])
    return found


def _label(instruction: Instruction, config: ImageConfig, scope: Scope, _lenient: bool) -> ImageConfig:
    labels = {**config.labels, **pairs(instruction, scope)}
    _bound(len(labels), "labels")
    return replace(config, labels=labels)


def _maintainer(instruction: Instruction, config: ImageConfig, _scope: Scope, _lenient: bool) -> ImageConfig:
    if not instruction.args:
        raise ValueError("it names nobody")
    return replace(config, labels={**config.labels, "maintainer": instruction.args[0]})


def _expose(instruction: Instruction, config: ImageConfig, scope: Scope, lenient: bool) -> ImageConfig:
    found = dict.fromkeys(config.exposed)
    for argument in instruction.args:
        for word in scope.words(argument):
            if lenient and "$" in word:
                continue
            match = _PORT.fullmatch(word)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if match is None or not 1 <= low <= high <= 65535:
                raise ValueError(f"{quoted(word)} is not a port: write 8080, 8080/udp or 8000-8010")
            _bound(len(found) + high - low, "ports")
            found |= dict.fromkeys(f"{port}/{(match[3] or 'tcp').lower()}" for port in range(low, high + 1))
    if not instruction.args:
        raise ValueError("it names no port")
    return replace(config, exposed=tuple(found))


def _volume(instruction: Instruction, config: ImageConfig, scope: Scope, _lenient: bool) -> ImageConfig:
    found = dict.fromkeys((*config.volumes, *(scope.word(one) for one in instruction.args)))
    if not instruction.args or "" in found:
        raise ValueError("it names no directory")
    _bound(len(found), "volumes")
    return replace(config, volumes=tuple(found))


def _stop_signal(instruction: Instruction, config: ImageConfig, scope: Scope, lenient: bool) -> ImageConfig:
    signal = scope.word(instruction.args[0]) if instruction.args else ""
    if not _SIGNAL.fullmatch(signal) and not (lenient and "$" in signal):
        raise ValueError(f"{quoted(signal)} is not a signal: write SIGTERM or 15")
    return replace(config, stop_signal=signal)


def _healthcheck(instruction: Instruction, config: ImageConfig, _scope: Scope, _lenient: bool) -> ImageConfig:
    flags = read_flags(instruction.flags, _HEALTH_FLAGS)
    kind = instruction.args[0].upper() if instruction.args else ""
    if kind == "NONE":
        if len(instruction.args) > 1 or flags:
            raise ValueError("HEALTHCHECK NONE takes nothing else")
        return replace(config, healthcheck={"Test": ["NONE"]})
    if kind != "CMD" or len(instruction.args) < 2:
        raise ValueError("it is HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE")
    test = ["CMD", *instruction.args[1:]] if instruction.json else ["CMD-SHELL", instruction.args[1]]
    check: dict[str, object] = {"Test": test}
    for name, values in flags.items():
        check[_HEALTH_FLAGS[name]] = _retries(values[0]) if name == "retries" else _duration_ns(values[0], name)
    return replace(config, healthcheck=check)


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise ValueError(f"--retries is a number, not {quoted(text)}")
    return int(text)


def _duration_ns(text: str, flag: str) -> int:
    if len(text) > 64 or not _DURATION.fullmatch(text):
        raise ValueError(f"--{flag} is a time like 30s or 1m30s, not {quoted(text)}")
    return int(sum(float(number) * _NS[unit] for number, unit in _DURATION_PART.findall(text)))


def _bound(count: int, what: str) -> None:
    if count > _MAX_ENTRIES:
        raise ValueError(f"{count} {what} are too many: {_MAX_ENTRIES} are the most")


_HANDLERS: Mapping[str, Callable[[Instruction, ImageConfig, Scope, bool], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "SHELL": _shell,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _healthcheck,
}
CONFIGURING = frozenset(_HANDLERS)
