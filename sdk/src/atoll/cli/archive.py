"""Directories as tar streams through a process in the sandbox.

What comes out of a sandbox is hostile. It is unpacked into a new directory that nobody else has seen, directories and
plain files first and links last, so that nothing is ever written through a link; a member whose path, or whose link's
target, leads out of the directory is left out and named. Only then the directory gets its place.
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from atoll._errors import AlreadyExists, AtollError, Internal
from atoll._events import Exit, Gap, Stderr, Stdout
from atoll._sync.process import Process
from atoll._sync.sandbox import Sandbox

Report = Callable[[int, "int | None"], None]

MAX_MEMBERS = 2_000_000
COPY_BYTES = 1024 * 1024


def send(sandbox: Sandbox, source: Path, target: str, user: str | None, report: Report) -> int:
    """Copy a local directory's content into the sandbox's directory `target`; returns the bytes sent.

    Links are sent as links. Raises OSError for what cannot be read, AtollError when the sandbox's tar fails.
    """
    sandbox.files.make_dir(target, user=user)
    process = sandbox.start(["tar", "-xf", "-", "-C", target], user=user, stdin=True)
    writer = _StdinWriter(process, report)
    try:
        buffered = io.BufferedWriter(writer, COPY_BYTES)
        with tarfile.open(fileobj=cast("IO[bytes]", buffered), mode="w|") as tar:
            for name in sorted(os.listdir(source)):
                tar.add(source / name, arcname=name)
        buffered.flush()
        writer.finish()
    except BaseException:
        process.kill()
        raise
    result = process.wait()
    if not result.ok:
        raise Internal(f"tar in the sandbox failed: {result.stderr.strip() or result.error}")
    return writer.sent


def receive(sandbox: Sandbox, source: str, target: Path, user: str | None, report: Report, skipped: list[str]) -> int:
    """Copy a directory of the sandbox to `target`, which must not exist; returns the bytes received.

    What was left out is added to `skipped`. Raises AlreadyExists, OSError, AtollError when the sandbox's tar fails.
    """
    if os.path.lexists(target):
        raise AlreadyExists(f"{target} exists already; name another target, or remove it")
    process = sandbox.start(["tar", "-cf", "-", "-C", source, "."], user=user)
    reader = _StdoutReader(process, report)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        try:
            unpack(cast("IO[bytes]", io.BufferedReader(reader, COPY_BYTES)), partial, skipped)
        except tarfile.TarError as error:
            raise Internal(f"the sandbox's tar stream makes no sense: {error}. {reader.complaint()}") from error
        reader.finish()
        os.chmod(partial, 0o755)
        os.rename(partial, target)
    except BaseException:
        process.kill()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return reader.received


def unpack(stream: IO[bytes], directory: Path, skipped: list[str]) -> None:
    """Unpack a hostile tar stream into `directory`, which must be new and empty.

    Owners are not kept; of the mode only read, write and execute. Devices, pipes and whatever leads out are left out
    and named in `skipped`. Raises tarfile.TarError, OSError.
    """
    links: list[tuple[tarfile.TarInfo, PurePosixPath]] = []
    directories: list[tuple[Path, int]] = []
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for number, member in enumerate(tar):
            if number >= MAX_MEMBERS:
                raise tarfile.TarError(f"more than {MAX_MEMBERS} files")
            path = inner_path(member.name)
            if path is None:
                skipped.append(f"{member.name} (leads out of the directory)")
            elif member.isdir():
                (directory / path).mkdir(parents=True, exist_ok=True)
                directories.append((directory / path, member.mode & 0o777))
            elif member.isreg():
                _write_file(tar, member, directory / path)
            elif member.issym() or member.islnk():
                links.append((member, path))
            else:
                skipped.append(f"{member.name} (neither file, directory nor link)")
    for member, path in links:
        if not _make_link(member, path, directory):
            skipped.append(f"{member.name} -> {member.linkname} (leads out of the directory)")
    for made, mode in reversed(directories):
        # Last, and readable by us in any case: a directory without write permission could not have been filled.
        os.chmod(made, mode | 0o700)


def inner_path(name: str) -> PurePosixPath | None:
    """The member's path below the directory; None when it leads out of it. `.` is the directory itself."""
    if name.startswith("/") or "\0" in name:
        return None
    path = PurePosixPath(posixpath.normpath(name))
    return None if ".." in path.parts else path


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    # The same name may come twice; the later one counts, as with tar itself.
    path.unlink(missing_ok=True)
    with open(path, "xb") as file:
        shutil.copyfileobj(content, file, COPY_BYTES)
    os.chmod(path, member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _make_link(member: tarfile.TarInfo, path: PurePosixPath, directory: Path) -> bool:
    if member.islnk():
        source = inner_path(member.linkname)
        if source is None or not (directory / source).is_file() or _has_link(directory, source):
            return False
        if _has_link(directory, path.parent):
            return False
        (directory / path).unlink(missing_ok=True)
        os.link(directory / source, directory / path, follow_symlinks=False)
        return True
    if inner_path(posixpath.join(str(path.parent), member.linkname)) is None or member.linkname.startswith("/"):
        return False
    if _has_link(directory, path.parent) or (directory / path).is_dir():
        return False
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).unlink(missing_ok=True)
    os.symlink(member.linkname, directory / path)
    return True


def _has_link(directory: Path, path: PurePosixPath) -> bool:
    current = directory
    for part in path.parts:
        current = current / part
        if current.is_symlink():
            return True
    return False


class _StdinWriter(io.RawIOBase):
    """A process's standard input as a file."""

    def __init__(self, process: Process, report: Report) -> None:
        self._process = process
        self._report = report
        self.sent = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(cast("bytes", data))
        try:
            self._process.send_stdin(piece)
        except AtollError as error:
            raise Internal(f"tar in the sandbox stopped reading: {error.message}") from error
        self.sent += len(piece)
        self._report(self.sent, None)
        return len(piece)

    def finish(self) -> None:
        self._process.close_stdin()


class _StdoutReader(io.RawIOBase):
    """A process's standard output as a file; its end is only an end when the process succeeded."""

    def __init__(self, process: Process, report: Report) -> None:
        self._process = process
        self._report = report
        self._rest = memoryview(b"")
        self._errors = b""
        self.received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        room = memoryview(cast("bytearray", buffer))
        while not self._rest:
            if not self._advance():
                return 0
        size = min(len(room), len(self._rest))
        room[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def finish(self) -> None:
        """Read to the process's end. Raises Internal when it failed."""
        while self._advance():
            continue
        end = self._process.exit
        if end is None or end.exit_code != 0:
            raise Internal(self.complaint())

    def complaint(self) -> str:
        end = self._process.exit
        words = self._errors.decode("utf-8", "replace").strip()
        return f"tar in the sandbox failed ({end.status if end else 'no end'}): {words}"

    def _advance(self) -> bool:
        for event in self._process:
            if isinstance(event, Stdout):
                self._rest = memoryview(event.data)
                self.received += len(event.data)
                self._report(self.received, None)
                return True
            if isinstance(event, Stderr):
                self._errors = (self._errors + event.data)[-4096:]
            elif isinstance(event, Gap):
                raise Internal("part of the sandbox's tar stream was lost while the connection was away; try again")
            elif isinstance(event, Exit):
                return False
        return False
