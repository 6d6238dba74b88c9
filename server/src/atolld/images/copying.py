"""COPY and ADD: files into the root file system of an image, as Docker does it.

Links of the image on the way to the destination are followed within its root. New directories and text from the
Dockerfile get a fixed time, copied files the time they have, and directories that were there keep theirs: so the same
step gives the same layer.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from dataclasses import replace
from pathlib import Path

from atolld.core.build import Copy
from atolld.foundation.errors import InvalidArgument
from atolld.images.addarchive import is_archive, open_archive
from atolld.images.budget import LayerBudget
from atolld.images.copysources import Picked, Sources
from atolld.images.filecopy import (
    READ_FLAGS,
    WRITE_FLAGS,
    Attributes,
    copy_data,
    copy_special,
    kept_attributes,
)
from atolld.images.imageusers import owner_of
from atolld.images.rootwalk import OPEN_DIRECTORY, Root
from atolld.images.tree import MAX_DEPTH, status_of
from atolld.images.unpack import unpack

# 1980-01-02: what some archive formats cannot go below, in any time zone.
FIXED_NS = 315_619_200 * 10**9
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644

Names = tuple[str, ...]


def destination_of(step: Copy, workdir: str) -> tuple[str, bool]:
    """The absolute path that it copies to, cleaned, and whether that says of itself that it is a directory."""
    written = step.destination
    path = posixpath.normpath("/" + posixpath.join(workdir, written).lstrip("/"))
    return path, written.endswith(("/", "/.", "/..")) or written in ("", ".", "..")


class Copying:
    """One step that writes into `target`, the view of an image with a layer of its own on top.

    `budget` counts what it writes; `scratch`: a directory that does not exist, for archives while they are unpacked.
    """

    def __init__(self, target: Root, step: Copy, budget: LayerBudget, scratch: Path) -> None:
        self._target = target
        self._step = step
        self._budget = budget
        self._scratch = scratch
        self._owner = owner_of(target, step.owner or "")
        # What comes out of an archive keeps its owners, unless the step names one.
        self._keeps_owners = False
        # Of directories that were written into: the time that they are to have in the end.
        self._times: dict[Names, int] = {}
        # Where a file with several names was copied to, and which one that is.
        self._links: dict[tuple[int, int], tuple[Names, tuple[int, int]]] = {}

    def run(self, sources: Sources | None, workdir: str) -> None:
        """Copy everything. Raises InvalidArgument, Capacity, Refused, OSError."""
        self._budget.check()
        picked = [] if sources is None else sources.pick()
        path, is_directory = destination_of(self._step, workdir)
        if len(picked) + len(self._step.inline) > 1 and not is_directory:
            found = self._target.find(path)
            if found is None or not found.is_directory:
                raise InvalidArgument(
                    f"{len(picked) + len(self._step.inline)} files are to be copied to {path}, which is no directory: "
                    "end the destination with '/'"
                )
            is_directory = True
        for one in picked:
            assert sources is not None
            self._one(sources, one, path, is_directory)
        for name, text in self._step.inline.items():
            self._inline(name, text.encode("utf-8", "surrogateescape"), path, is_directory)
        self._set_times()

    def make(self, path: str) -> bool:
        """Make a directory; False when it is there."""
        found = self._target.find(path)
        if found is not None and found.is_directory:
            return False
        self._directory(path)
        self._set_times()
        return True

    def _one(self, sources: Sources, picked: Picked, path: str, is_directory: bool) -> None:
        with_parents = "/".join((path, *picked.parents)) if self._step.parents else path
        if picked.found.is_directory:
            self._tree(sources, picked, self._directory(with_parents))
            return
        source = sources.root.open(picked.found.names[:-1])
        try:
            name = picked.found.names[-1]
            if self._step.unpack and stat.S_ISREG(picked.found.status.st_mode) and self._add(source, name, path):
                return
            names, new = self._place(with_parents, picked.given[-1], is_directory or self._step.parents)
            target = self._target.open(names)
            try:
                self._file(source, name, picked.found.status, target, (*names, new))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _place(self, path: str, name: str, is_directory: bool) -> tuple[Names, str]:
        """The directory and the name that a file called `name` gets at the destination `path`."""
        found = self._target.find(path)
        if is_directory or (found is not None and found.is_directory):
            return self._directory(path), name
        parent, new = posixpath.split(path)
        return self._directory(parent), new

    def _directory(self, path: str) -> Names:
        return self._target.make(path, self._make).names

    def _make(self, parent: int, name: str, names: Names) -> None:
        self._touch(parent, names)
        os.mkdir(name, 0o700, dir_fd=parent)
        self._budget.entry()
        self._budget.directory()
        made = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        try:
            Attributes(*self._owner, _DIRECTORY_MODE, FIXED_NS).put(made, {})
        finally:
            os.close(made)
        self._times[*names, name] = FIXED_NS

    def _tree(self, sources: Sources, picked: Picked, names: Names) -> None:
        """Copy what is in a directory into the directory `names`, over what is there."""
        # Where each directory of the source went; its link in the image may lead elsewhere.
        places: dict[Names, Names] = {(): names}
        for entry in sources.below(picked):
            parent = places[entry.path[:-1]]
            target = self._target.open(parent)
            try:
                if stat.S_ISDIR(entry.status.st_mode):
                    inner = os.open(entry.name, OPEN_DIRECTORY, dir_fd=entry.directory)
                    try:
                        places[entry.path] = self._merge(inner, entry.status, target, (*parent, entry.name))
                    finally:
                        os.close(inner)
                else:
                    self._file(entry.directory, entry.name, entry.status, target, (*parent, entry.name))
            finally:
                os.close(target)

    def _merge(self, source: int, status: os.stat_result, target: int, names: Names) -> Names:
        """The directory `names` of the image for a directory of the source, with its attributes."""
        if len(names) > MAX_DEPTH:
            raise InvalidArgument(f"/{'/'.join(names[:8])}/... is nested deeper than {MAX_DEPTH} directories")
        there = status_of(names[-1], target)
        if there is None:
            self._touch(target, names[:-1])
            os.mkdir(names[-1], 0o700, dir_fd=target)
            self._budget.entry()
            self._budget.directory()
        elif not stat.S_ISDIR(there.st_mode):
            found = self._target.find(names[-1], start=names[:-1])
            if found is None or not found.is_directory:
                raise InvalidArgument(f"/{'/'.join(names)} is a directory in the source, and not one in the image")
            return found.names
        made = self._target.open(names)
        try:
            self._attributes(status).put(made, kept_attributes(source))
        finally:
            os.close(made)
        self._times[names] = status.st_mtime_ns
        return names

    def _file(self, source: int, name: str, status: os.stat_result, target: int, names: Names) -> None:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            # Sockets and devices mean nothing in an image.
            return
        self._make_way(target, names)
        if stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1 and self._link((status.st_dev, status.st_ino), target, names[-1]):
                return
            self._regular(source, name, status, target, names)
        else:
            copy_special(name, source, target, names[-1], self._attributes(status))
        self._budget.entry()

    def _regular(self, source: int, name: str, status: os.stat_result, target: int, names: Names) -> None:
        self._budget.file(status.st_size)
        read = os.open(name, READ_FLAGS, dir_fd=source)
        try:
            write = os.open(names[-1], WRITE_FLAGS, 0o600, dir_fd=target)
            try:
                copy_data(read, write, self._budget.written)
                self._attributes(status).put(write, kept_attributes(read))
                made = os.fstat(write)
            finally:
                os.close(write)
        finally:
            os.close(read)
        if status.st_nlink > 1:
            self._links[status.st_dev, status.st_ino] = (names, (made.st_dev, made.st_ino))

    def _link(self, file: tuple[int, int], target: int, name: str) -> bool:
        """Make one more name of a file that was copied already; False when it was not, or was replaced since."""
        if file not in self._links:
            return False
        first, made = self._links[file]
        directory = self._target.open(first[:-1])
        try:
            status = status_of(first[-1], directory)
            if status is None or (status.st_dev, status.st_ino) != made:
                return False
            os.link(first[-1], name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(directory)
        self._budget.entry()
        return True

    def _add(self, source: int, name: str, path: str) -> bool:
        """Unpack an archive into the directory `path`; False when the file is none."""
        file = os.open(name, READ_FLAGS, dir_fd=source)
        try:
            if not is_archive(file):
                return False
            self._scratch.mkdir(mode=0o700)
            with open_archive(file) as stream:
                unpack(stream, self._scratch, stop=self._budget.stop, whiteouts=False)
        finally:
            os.close(file)
        kept = self._step
        # Whole, and with the owners that it names.
        self._step = replace(kept, exclude=(), sources=("/",))
        try:
            with Root(self._scratch) as root:
                sources = Sources(root, self._step, self._budget.stop)
                for picked in sources.pick():
                    self._keeps_owners = kept.owner is None
                    self._tree(sources, picked, self._directory(path))
        finally:
            self._keeps_owners = False
            self._step = kept
            self._links.clear()
            shutil.rmtree(self._scratch)
        return True

    def _inline(self, name: str, data: bytes, path: str, is_directory: bool) -> None:
        names, new = self._place(path, name, is_directory)
        target = self._target.open(names)
        try:
            self._make_way(target, (*names, new))
            self._budget.file(len(data))
            with open(os.open(new, WRITE_FLAGS, 0o600, dir_fd=target), "wb") as file:
                file.write(data)
                file.flush()
                mode = _FILE_MODE if self._step.mode is None else self._step.mode
                Attributes(*self._owner, mode, FIXED_NS).put(file.fileno(), {})
            self._budget.entry()
        finally:
            os.close(target)

    def _make_way(self, target: int, names: Names) -> None:
        """Take away the file that is at `names`; `target`: its directory. Raises InvalidArgument for a directory."""
        if not names[-1] or "/" in names[-1] or names[-1] in (".", ".."):
            raise InvalidArgument(f"{names[-1]!r} is no name for a file")
        there = status_of(names[-1], target)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise InvalidArgument(f"/{'/'.join(names)} is a directory in the image, and a file in the source")
        self._touch(target, names[:-1])
        if there is not None:
            os.unlink(names[-1], dir_fd=target)

    def _attributes(self, status: os.stat_result) -> Attributes:
        found = Attributes.of(status)
        owner = (found.uid, found.gid) if self._keeps_owners else self._owner
        mode = found.mode if self._step.mode is None else self._step.mode
        return Attributes(*owner, mode, found.mtime_ns)

    def _touch(self, directory: int, names: Names) -> None:
        """Something in this directory changes: it is to have the time in the end that it has now."""
        if names not in self._times:
            self._times[names] = os.fstat(directory).st_mtime_ns

    def _set_times(self) -> None:
        for names, mtime_ns in self._times.items():
            directory = self._target.open(names)
            try:
                os.utime(directory, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(directory)
