"""The template `code-interpreter-v1`: the plan it is built by, and the files that the plan copies.

What is in those files runs in sandboxes only (`interpreter/` of the source tree); the daemon never imports it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from atolld.core.build import Base, BaseKind, BuildSpec, Copy, Plan, Run, Stage, Step, Where
from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, InvalidArgument

NAME = "code-interpreter-v1"
SPEC = BuildSpec(resources=Resources(cpu=2, memory_mib=2048))
# Of the source tree that the daemon was installed from.
SOURCE = Path(__file__).resolve().parents[4] / "interpreter"

# They share what the template has anyway.
ALWAYS = ("python", "javascript", "typescript", "bash")
# Debian's packages that each of the others needs.
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "r": ("r-base-core", "r-cran-irkernel", "r-cran-ggplot2"),
    "java": ("openjdk-17-jdk-headless",),
}
LANGUAGES = (*ALWAYS, *OPTIONAL)

_HOME = "/opt/atoll-interpreter"
_LEFT_OUT = frozenset(("__pycache__", "node_modules", "tests", "dist", "build", ".venv"))
_PYTHON = f"{_HOME}/venv/bin/python"
_START = f"exec sudo -n {_PYTHON} -m atoll_interpreter.supervise"
# /health says so once the kernels that start with the server have run something.
_READY = "curl --silent --fail --max-time 2 http://127.0.0.1:49999/health"

_PIP = "pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes"
_APT = """export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends {packages} >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*"""
_VENV = f"""python3 -m venv {_HOME}/venv
{_HOME}/venv/bin/{_PIP} -r {_HOME}/requirements/server.txt
echo {_HOME}/src >"$(echo {_HOME}/venv/lib/python3*/site-packages)/atoll_interpreter.pth"
rm -rf {_HOME}/venv/lib/python3*/site-packages/pip {_HOME}/venv/lib/python3*/site-packages/setuptools"""
_NPM = f"""cd {_HOME}/kernels/javascript
npm ci --silent --ignore-scripts --omit=dev --cache /tmp/npm
rm -rf /tmp/npm node_modules/zeromq/build/darwin node_modules/zeromq/build/win32"""
# pip puts what it installs as the user where a running Python looks only if it was there when it started.
_FINISH = f"""{_PYTHON} -m compileall -q {_HOME}/src
python3 -m compileall -q {_HOME}/kernels/python
[ ! -d {_HOME}/kernels/java ] || javac -d {_HOME}/kernels/java {_HOME}/kernels/java/Shell.java
sudo -u user sh -c 'mkdir -p "$(python3 -m site --user-site)" && cd && python3 -c "import matplotlib.pyplot"'"""


def interpreter_languages(asked: Sequence[str]) -> tuple[str, ...]:
    """The languages of a template for which `asked` were named: these, and those that every one has.

    Raises InvalidArgument for one that there is not.
    """
    for name in asked:
        if name not in LANGUAGES:
            raise InvalidArgument(f"{name[:80]!r} is no language of the interpreter; there are {', '.join(LANGUAGES)}")
    return tuple(name for name in LANGUAGES if name in ALWAYS or name in asked)


def interpreter_plan(files_name: str, languages: Sequence[str] = ()) -> Plan:
    """The build of the template. `files_name`: under which `interpreter_files` was uploaded.

    `languages`: those of `OPTIONAL` that it is to have; the others are always there. Raises InvalidArgument.
    """
    packages = [package for name in interpreter_languages(languages) for package in OPTIONAL.get(name, ())]
    writer = _Writer(files_name)
    # What changes seldom comes first: a change of our own files builds nothing of the packages anew.
    if packages:
        writer.run("install Debian's packages", _APT.format(packages=" ".join(packages)))
    writer.copy("requirements/*.txt", f"{_HOME}/requirements/")
    writer.run("install Python packages for code", f"{_PIP} -r {_HOME}/requirements/kernels.txt")
    writer.run("install Python packages of the server", _VENV)
    writer.copy("kernels/javascript/package*.json", f"{_HOME}/kernels/javascript/")
    writer.run("install npm packages of the kernel", _NPM)
    writer.copy("kernels/", f"{_HOME}/kernels/", exclude=_excluded(languages))
    writer.copy("src/", f"{_HOME}/src/")
    writer.run("compile and warm up", _FINISH)
    stage = Stage(Base(BaseKind.TEMPLATE, "base"), tuple(writer.steps))
    return Plan((stage,), start_command=_START, ready_command=_READY)


def interpreter_files(source: Path = SOURCE) -> bytes:
    """A tar of what the plan copies: the same bytes for the same files. Raises FailedPrecondition: they are missing."""
    if not (source / "src").is_dir():
        raise FailedPrecondition(
            f"the code interpreter's files are not in {source}: the template is built from Atoll's source tree"
        )
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(source):
            info = tarfile.TarInfo(path.relative_to(source).as_posix())
            contents = path.read_bytes()
            info.size = len(contents)
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(info, io.BytesIO(contents))
    return written.getvalue()


class InterpreterRecipe:
    """How the template is built on demand; `options`: languages, see `OPTIONAL`."""

    spec = SPEC

    def files(self) -> bytes:
        """See `interpreter_files`."""
        return interpreter_files()

    def plan(self, files: str, options: Sequence[str]) -> Plan:
        """See `interpreter_plan`."""
        return interpreter_plan(files, options)


def _files(source: Path) -> Iterator[Path]:
    found = (path for name in ("kernels", "requirements", "src") for path in (source / name).rglob("*"))
    for path in sorted(found):
        if path.is_file() and not _LEFT_OUT.intersection(path.relative_to(source).parts):
            yield path


def _excluded(languages: Sequence[str]) -> tuple[str, ...]:
    """Kernels of languages that are not installed: what there is no kernel for is refused with what there is."""
    wanted = interpreter_languages(languages)
    return tuple(name for name in LANGUAGES if name not in wanted)


class _Writer:
    """Steps in their order, numbered as they are shown."""

    def __init__(self, files_name: str) -> None:
        self._files_name = files_name
        self.steps: list[Step] = []

    def run(self, text: str, script: str) -> None:
        self.steps.append(Run(self._where(text), ("/bin/sh", "-e", "-c", script)))

    def copy(self, sources: str, destination: str, exclude: tuple[str, ...] = ()) -> None:
        where = self._where(f"copy {sources}")
        self.steps.append(Copy(where, (sources,), destination, origin=self._files_name, exclude=exclude))

    def _where(self, text: str) -> Where:
        return Where(len(self.steps) + 1, 0, text)
