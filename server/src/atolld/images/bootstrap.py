"""Making a root file system out of packages with mmdebstrap."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections import deque
from pathlib import Path

from atolld.foundation.errors import DeadlineExceeded, FailedPrecondition, Internal
from atolld.foundation.scratch import scratch
from atolld.images.bootstrap_progress import BootstrapProgress
from atolld.images.build_environment import BuildEnvironment
from atolld.images.progress import ProgressCallback
from atolld.images.recipe import Recipe

_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")
_NEEDED = {"mmdebstrap": "mmdebstrap", "setpriv": "util-linux", "unshare": "util-linux", "apt-get": "apt"}


async def bootstrap(
    recipe: Recipe,
    environment: BuildEnvironment,
    root: Path,
    log: Path,
    progress: ProgressCallback,
    *,
    timeout_s: float = 3600,
) -> None:
    """Fill the empty directory `root` from `recipe`; everything the tools say goes to the file `log`.

    The tools run in mount and process namespaces of their own and die with this process, so that a build that is
    killed leaves neither mounts nor processes, only `root`.

    Raises FailedPrecondition when a tool is missing or this process is not root, Internal with the tools' last words
    when they fail, DeadlineExceeded after `timeout_s`.
    """
    _check_tools()
    with scratch("build") as place:
        command, variables = _prepare(recipe, environment, root, place)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=variables,
            cwd="/",
            limit=1024 * 1024,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                last = await _follow(process, log, progress)
                status = await process.wait()
        except TimeoutError as error:
            raise DeadlineExceeded(f"building took longer than {timeout_s:.0f} s; its output is in {log}") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if status != 0:
        said = "\n".join(last)
        raise Internal(f"mmdebstrap failed with status {status}; its whole output is in {log}. Its last words:\n{said}")


def _check_tools() -> None:
    if os.geteuid() != 0:
        raise FailedPrecondition("building a template needs root: start the daemon as root or with sudo")
    missing = sorted({package for tool, package in _NEEDED.items() if shutil.which(tool) is None})
    if missing:
        raise FailedPrecondition(f"building a template needs {', '.join(missing)}: apt-get install {' '.join(missing)}")


def _prepare(
    recipe: Recipe, environment: BuildEnvironment, root: Path, place: Path
) -> tuple[list[str], dict[str, str]]:
    sources = place / "build.sources"
    sources.write_text("\n".join(source.to_deb822() for source in environment.sources), encoding="utf-8")
    apt_options = place / "apt.conf"
    # A file, not arguments: they may hold a proxy's password, and arguments are readable by everyone.
    apt_options.touch(mode=0o600)
    apt_options.write_text("\n".join(("// Of the build only.", *environment.apt_options, "")), encoding="utf-8")
    setup = place / "setup.sh"
    setup.write_text(recipe.setup_script, encoding="utf-8")
    setup.chmod(0o700)
    command = [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"),
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--verbose"),
        f"--architectures={recipe.architecture}",
        f"--components={','.join(environment.release.components)}",
        f"--include={','.join(recipe.packages)}",
        f"--aptopt={apt_options}",
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excludes),
        *(f"--dpkgopt=path-include={pattern}" for pattern in recipe.includes),
        f"--customize-hook={setup}",
        recipe.codename,
        str(root),
        str(sources),
    ]
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **environment.variables,
    }
    return command, variables


async def _follow(process: asyncio.subprocess.Process, log: Path, progress: ProgressCallback) -> list[str]:
    assert process.stdout is not None
    told = BootstrapProgress()
    last: deque[str] = deque(maxlen=15)
    # Line-buffered, so that the log can be followed while the build runs.
    with log.open("w", encoding="utf-8", buffering=1) as file:
        async for raw in process.stdout:
            line = _CREDENTIALS.sub(r"\1", raw.decode(errors="replace").rstrip())
            file.write(line + "\n")
            last.append(line)
            if (step := told.feed(line)) is not None:
                progress(step)
    return list(last)
