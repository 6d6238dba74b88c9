"""Languages: how they are called, and how each is given environment variables. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from atoll_interpreter.errors import Invalid

_ALIASES = {"js": "javascript", "ts": "typescript", "python3": "python", "ir": "r", "sh": "bash", "shell": "bash"}
_KERNEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def normalize(language: str | None) -> str:
    """The kernel's name for `language`: any case, common short names, Python when none is given.

    Raises Invalid when it can be no kernel's name.
    """
    name = (language or "python").strip().lower()
    name = _ALIASES.get(name, name)
    if not _KERNEL_NAME.fullmatch(name):
        raise Invalid(f"{language!r} is not the name of a language")
    return name


def check_variables(envs: Mapping[str, str]) -> None:
    """Raises Invalid when a name in `envs` cannot be a variable's, or a value cannot be one."""
    for name, value in envs.items():
        if not _VARIABLE.fullmatch(name):
            raise Invalid(f"{name!r} cannot be the name of an environment variable")
        if "\0" in value:
            raise Invalid(f"the environment variable {name} cannot hold a null character")


# Their kernels are ours, and take variables along with the code; others are told in code of their own.
TAKE_VARIABLES = frozenset(("python", "javascript", "typescript"))


def nothing(language: str) -> str:
    """Code that does nothing."""
    return ":" if language == "bash" else "0"


def set_variables(language: str, envs: Mapping[str, str]) -> str:
    """Code that sets `envs` and remembers what was there before; empty when `language` has no variables to set."""
    if not envs:
        return ""
    if language == "bash":
        return "\n".join(
            f'[ -n "${{{name}+x}}" ] && __atoll_{name}=${name}; export {name}={_bash(value)}'
            for name, value in envs.items()
        )
    if language == "r":
        names = ", ".join(json.dumps(name) for name in envs)
        pairs = ", ".join(f"{name} = {_r(value)}" for name, value in envs.items())
        return f"options(atoll.envs = Sys.getenv(c({names}), unset = NA, names = TRUE)); invisible(Sys.setenv({pairs}))"
    if language == "java":
        return "\n".join(f"System.setProperty({_java(name)}, {_java(value)});" for name, value in envs.items())
    return ""


def restore_variables(language: str, envs: Mapping[str, str], lasting: Mapping[str, str]) -> str:
    """Code that undoes `set_variables`. `lasting`: the sandbox's own variables, for languages that remember nothing."""
    if not envs:
        return ""
    if language == "bash":
        return "\n".join(
            f'if [ -n "${{__atoll_{name}+x}}" ]; then export {name}="$__atoll_{name}"; unset __atoll_{name}; '
            f"else unset {name}; fi"
            for name in envs
        )
    if language == "r":
        return (
            "local({ e <- getOption('atoll.envs'); for (n in names(e)) if (is.na(e[[n]])) Sys.unsetenv(n) else "
            "do.call(Sys.setenv, setNames(list(e[[n]]), n)); options(atoll.envs = NULL) })"
        )
    if language == "java":
        return "\n".join(
            f"System.setProperty({_java(name)}, {_java(lasting[name])});"
            if name in lasting
            else f"System.clearProperty({_java(name)});"
            for name in envs
        )
    return ""


def keep_variables(language: str, envs: Mapping[str, str]) -> str:
    """Code that sets `envs` for good, in a kernel that started before they were known."""
    if not envs:
        return ""
    if language == "bash":
        return "\n".join(f"export {name}={_bash(value)}" for name, value in envs.items())
    if language == "r":
        pairs = ", ".join(f"{name} = {_r(value)}" for name, value in envs.items())
        return f"invisible(Sys.setenv({pairs}))"
    return set_variables(language, envs)


def _bash(text: str) -> str:
    # On one line and in plain ASCII: the kernel types it at a prompt, line by line.
    # Bytes, not characters: what those become depends on the locale.
    escaped = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 or chr(byte) in "_-./:@%+=, " else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "replace")
    )
    return f"$'{escaped}'"


def _r(text: str) -> str:
    escaped = "".join(char if char.isalnum() and char.isascii() else f"\\U{{{ord(char):x}}}" for char in text)
    return f'"{escaped}"'


def _java(text: str) -> str:
    # JSON's escapes are Java's, except that Java has no \/ and JSON does not need it.
    return json.dumps(text)
