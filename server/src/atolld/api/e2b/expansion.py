"""Variables in the values of build steps: `$NAME`, `${NAME}`, `${NAME:-word}`, as a shell has them in double quotes.

Pure. Everything else a shell would do with a `$` is left as it is written: `$(command)`, `$1`, a `$` at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from atolld.foundation.errors import InvalidArgument

# What there is to refer to before anything is set, as for root in a sandbox.
ALWAYS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})(?:(:?)([-+?])([^{{}}]*))?\}})")


def refers(text: str) -> bool:
    """Whether `text` has a variable in it."""
    return _REFERENCE.search(text) is not None


def expand(text: str, envs: Mapping[str, str]) -> str:
    """`text` with its variables replaced by what `envs`, or else `ALWAYS`, has; an unset one is empty.

    Raises InvalidArgument for `${NAME:?reason}` when it is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        known = envs.get(name, ALWAYS.get(name))
        # With ":" an empty one counts as not set.
        there = known is not None and not (found[3] and not known)
        match found[4]:
            case "-":
                return str(known) if there else str(found[5])
            case "+":
                return str(found[5]) if there else ""
            case "?" if not there:
                raise InvalidArgument(f"the variable {name} is not set: {found[5] or 'it is needed'}")
        return known or ""

    return _REFERENCE.sub(value, text)
