"""Where package managers look that nobody told anything: the mirrors and indexes that everybody uses.

Their names are no trace of this machine, unlike those that its configuration brings. The tools themselves are asked, so
that what they come with counts, and no name has to be known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.scratch import scratch
from atolld.images.apt_sources import AptSource, mirror_hosts, parse_one_line
from atolld.images.build_environment import Release

ANSWER_S = 20.0
_NOWHERE = "/nonexistent"
_URL = re.compile(r"https?://[^\s,|)\"']+")


@dataclass(frozen=True, slots=True)
class _Question:
    """A command, with variables by which it reads no configuration, that says what it would use. `said`: where in its
    output that is."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    said: re.Pattern[str]


_PIP = re.compile(r"\(default\s+(?P<urls>https?://[^\s)]+)\)")
_ALL = re.compile(r"(?P<urls>.*)", re.DOTALL)
_NO_PIP = {"PIP_CONFIG_FILE": os.devnull}
# Two names, since npm refuses to read one file twice.
_NO_NPM = {"npm_config_userconfig": f"{_NOWHERE}/user", "npm_config_globalconfig": f"{_NOWHERE}/global"}
# uv's and pnpm's are pip's and npm's.
_QUESTIONS = (
    _Question(("python3", "-m", "pip", "install", "--help"), _NO_PIP, _PIP),
    _Question(("npm", "config", "get", "registry"), _NO_NPM, _ALL),
    _Question(("go", "env", "GOPROXY"), {"GOENV": "off", "GOTOOLCHAIN": "local"}, _ALL),
)


class PublicHosts:
    """Asks this machine's tools, each once. `python`: one that has pip, where the machine's own has none."""

    def __init__(self, python: str = sys.executable) -> None:
        self._own = replace(_QUESTIONS[0], command=(python, *_QUESTIONS[0].command[1:]))
        self._of_tools: frozenset[str] | None = None
        self._of_releases: dict[tuple[str, str], frozenset[str]] = {}

    async def of_tools(self) -> frozenset[str]:
        """Hosts that pip, npm and Go come with; nothing of those that are not on this machine."""
        if self._of_tools is None:
            found = await asyncio.gather(*map(_ask, (self._own, *_QUESTIONS)))
            self._of_tools = frozenset().union(*found)
        return self._of_tools

    async def of_release(self, release: Release) -> frozenset[str]:
        """Hosts of the distribution's own mirrors. Raises FailedPrecondition as `public_sources`."""
        key = release.distribution, release.codename
        if key not in self._of_releases:
            self._of_releases[key] = frozenset(mirror_hosts(await public_sources(release)))
        return self._of_releases[key]


async def with_public_sources(release: Release) -> Release:
    """`release`, and where its packages are in public. Raises FailedPrecondition as `public_sources`."""
    return replace(release, public_sources=await public_sources(release))


async def public_sources(release: Release) -> tuple[AptSource, ...]:
    """The distribution's own mirrors, for the release, its updates and its security suite, as mmdebstrap knows them.

    Nothing is downloaded. Raises FailedPrecondition when mmdebstrap is missing, this process is not root, or it knows
    none.
    """
    with scratch("mirrors") as place:
        listed = place / "sources.list"
        # What it would write into a new root; it is stopped before anything else.
        await _output(
            (
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=custom"),
                f'--setup-hook=cp "$1/etc/apt/sources.list" {shlex.quote(str(listed))}; false',
                *("--", release.codename, os.devnull),
            ),
            {"TMPDIR": str(place)},
        )
        text = await asyncio.to_thread(_read, listed)
    uris = {suite: source.uris for source in parse_one_line(text) for suite in source.suites}
    main = uris.get(release.codename)
    if main is None:
        raise FailedPrecondition(
            f"mmdebstrap does not say where {release.distribution} {release.codename} is in public: is it installed, "
            "and is this process root?"
        )
    suites = (
        (main, (release.codename, f"{release.codename}-updates")),
        (uris.get(f"{release.codename}-security", main), (f"{release.codename}-security",)),
    )
    signed = (("Signed-By", release.keyring),)
    return tuple(AptSource(where, names, release.components, signed) for where, names in suites)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


async def _ask(question: _Question) -> frozenset[str]:
    found = question.said.search(await _output(question.command, question.variables))
    urls = _URL.findall(found["urls"]) if found is not None else []
    return frozenset(host for url in urls if (host := urlsplit(url).hostname))


async def _output(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """What it says on its standard output; nothing when it is not there or takes too long. Its status means nothing."""
    # A home of its own, for a while: npm makes its cache there, wherever that is.
    with scratch("home") as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8", **variables}
        return await _said(command, environment)


async def _said(command: Sequence[str], environment: Mapping[str, str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(ANSWER_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return output.decode(errors="replace")
