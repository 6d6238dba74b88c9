"""A directory as the files of a build: found, named by what is in them, and packed the same way each time.

Nothing is kept in memory but the paths: contents are read in pieces, once for the name and once more while they are
sent. Links are kept and never followed; times and owners are no part of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll._errors import InvalidArgument
from atoll._ignore import Ignore

MAX_ENTRIES = 1_000_000
MAX_IGNORE_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
# Fast, and what is sent is mostly text; the network is seldom the bottleneck.
_LEVEL = 3

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One path of a context, with `/` and relative to it. `size` in bytes, of files; `target`: of links."""

    path: str
    kind: str
    mode: int
    size: int = 0
    target: str = ""


@dataclass(frozen=True)
class Context:
    """A directory, or one file of it, that is to be uploaded. `name`: what it is uploaded as, a digest of all of it."""

    root: Path
    entries: Sequence[Entry]
    name: str

    @property
    def size_bytes(self) -> int:
        """Of all contents."""
        return sum(entry.size for entry in self.entries)

    def packed(self, on_bytes: OnBytes | None = None) -> Iterator[bytes]:
        """A tar, with gzip, in pieces. `on_bytes`: told of the bytes of contents so far and of all of them.

        Raises InvalidArgument when a file was changed since it was looked at, OSError when it cannot be read.
        """
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        done = 0
        for piece in _tar(self):
            if packed := packer.compress(piece):
                yield packed
            done += len(piece)
            if on_bytes is not None:
                on_bytes(min(done, self.size_bytes), self.size_bytes)
        yield packer.flush()


def read_context(root: str | os.PathLike[str], ignore: Ignore | None = None) -> Context:
    """All files below the directory `root` that `ignore` does not leave out.

    Raises InvalidArgument: it is no directory, has a socket, a device or a pipe (which is named), or too many files;
    OSError when something cannot be read.
    """
    directory = Path(root)
    if not directory.is_dir():
        raise InvalidArgument(f"{os.fspath(root)!r} is not a directory")
    return _named(directory, list(_walk(directory, "", ignore or Ignore())))


def read_file(path: str | os.PathLike[str]) -> Context:
    """A context with one file or link. Raises as `read_context`."""
    file = Path(os.path.abspath(path))
    return _named(file.parent, [_entry(file, file.name)])


def read_ignore(directory: Path, dockerfile: Path | None = None) -> Ignore:
    """The rules of a context: `<Dockerfile>.dockerignore` beside the Dockerfile, or `.dockerignore` in the directory.

    Raises InvalidArgument when it is no text or a pattern in it is none, OSError when it cannot be read.
    """
    own = [] if dockerfile is None else [dockerfile.with_name(f"{dockerfile.name}.dockerignore")]
    for path in (*own, directory / ".dockerignore"):
        if not path.is_file():
            continue
        if path.stat().st_size > MAX_IGNORE_BYTES:
            raise InvalidArgument(f"{path} has more than {MAX_IGNORE_BYTES} bytes")
        try:
            return Ignore(path.read_text(encoding="utf-8").splitlines(), path.name)
        except UnicodeDecodeError:
            raise InvalidArgument(f"{path} is not UTF-8 text") from None
    return Ignore()


def _walk(root: Path, below: str, ignore: Ignore) -> Iterator[Entry]:
    # Sorted, so that the same files make the same archive. Without recursion: directories may be nested deeply.
    pending = [below]
    count = 0
    while pending:
        directory = pending.pop()
        with os.scandir(root / directory if directory else root) as found:
            names = sorted(one.name for one in found)
        children = []
        for name in names:
            path = f"{directory}/{name}" if directory else name
            out = ignore.leaves_out(path)
            is_directory = stat.S_ISDIR(os.lstat(root / path).st_mode)
            if is_directory and (not out or ignore.may_take_back_below(path)):
                children.append(path)
            if out:
                continue
            count += 1
            if count > MAX_ENTRIES:
                raise InvalidArgument(f"there are more than {MAX_ENTRIES} files below {root}: leave some out")
            yield _entry(root / path, path)
        pending += reversed(children)


def _entry(path: Path, name: str) -> Entry:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    _check_name(name)
    if stat.S_ISREG(status.st_mode):
        return Entry(name, "file", mode, status.st_size)
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, "directory", mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, "link", 0o777, target=os.readlink(path))
    kind = "a socket" if stat.S_ISSOCK(status.st_mode) else "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device"
    raise InvalidArgument(f"{name!r} is {kind}, which cannot be copied: leave it out with .dockerignore")


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name!r} has a name that is not UTF-8: rename it, or leave it out") from None


def _named(root: Path, entries: list[Entry]) -> Context:
    digest = hashlib.sha256(b"atoll context 1\n")
    for entry in entries:
        target = entry.target.encode("utf-8", "surrogateescape").hex()
        digest.update(f"{entry.kind} {entry.mode:o} {entry.size} {entry.path.encode().hex()} {target}\n".encode())
        if entry.kind == "file":
            for piece in _contents(root, entry):
                digest.update(piece)
    return Context(root, entries, digest.hexdigest())


def _contents(root: Path, entry: Entry) -> Iterator[bytes]:
    """Exactly `entry.size` bytes. Raises InvalidArgument when there are others by now."""
    left = entry.size
    # A link or a pipe that took the file's place is not followed and not waited for.
    descriptor = os.open(root / entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        while left and (piece := file.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
        if left or file.read(1):
            raise InvalidArgument(f"{entry.path!r} was changed while it was read: build again")


def _tar(context: Context) -> Iterator[bytes]:
    for entry in context.entries:
        head = tarfile.TarInfo(entry.path)
        head.mode = entry.mode
        if entry.kind == "file":
            head.size = entry.size
        elif entry.kind == "directory":
            head.type = tarfile.DIRTYPE
        else:
            head.type, head.linkname = tarfile.SYMTYPE, entry.target
        yield head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.kind == "file":
            yield from _contents(context.root, entry)
            yield b"\0" * (-entry.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
