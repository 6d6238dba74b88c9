"""Watching folders."""

from __future__ import annotations

from typing import Any

from e2e.e2b.runners.harness import Run, check, go


class Watch:
    """One watch of either flavour, with what it has told so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events: list[Any] = []
        self.handle: Any = None
        self.ended: list[Any] = []

    async def open(self, path: str, **options: Any) -> Watch:
        if self.run.flavour == "async":
            options |= {"on_event": self.events.append, "on_exit": self.ended.append}
        self.handle = await go(self.run.sb.files.watch_dir(path, **options))
        return self

    def seen(self) -> set[tuple[str, str]]:
        if self.run.flavour == "sync":
            self.events += self.handle.get_new_events()
        return {(event.name, event.type.value) for event in self.events}

    async def has(self, name: str, kind: str) -> None:
        try:
            await self.run.until(lambda: (name, kind) in self.seen(), 6)
        except AssertionError:
            raise AssertionError(f"no {kind} of {name!r} in {sorted(self.seen())}") from None


@check("files.watch_dir", "WatchHandle.get_new_events", "WatchHandle.stop")
async def watch_a_folder(run: Run) -> None:
    folder = await run.folder()
    watch = await Watch(run).open(folder)
    await go(run.sb.files.write(f"{folder}/f", "1"))
    await watch.has("f", "create")
    await watch.has("f", "write")
    await go(run.sb.commands.run(f"chmod 600 {folder}/f"))
    await watch.has("f", "chmod")
    await go(run.sb.files.rename(f"{folder}/f", f"{folder}/g"))
    await watch.has("f", "rename")
    await watch.has("g", "create")
    await go(run.sb.files.remove(f"{folder}/g"))
    await watch.has("g", "remove")
    await go(run.sb.commands.run(f"mkdir {folder}/sub && touch {folder}/sub/below"))
    await watch.has("sub", "create")
    assert ("sub/below", "create") not in watch.seen(), "it is not recursive"
    await go(watch.handle.stop())
    count = len(watch.events)
    await go(run.sb.files.write(f"{folder}/after", ""))
    await run.pause(0.3)
    assert len(watch.events) == count


@check("files.watch_dir")
async def watch_all_below(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.files.make_dir(f"{folder}/old"))
    watch = await Watch(run).open(folder, recursive=True)
    await go(run.sb.files.write(f"{folder}/old/f", "1"))
    await watch.has("old/f", "write")
    await go(run.sb.files.write(f"{folder}/new/deeper/f", "1"))
    await watch.has("new", "create")
    await run.pause(0.3)
    await go(run.sb.files.write(f"{folder}/new/deeper/f", "2"))
    await watch.has("new/deeper/f", "write")
    await go(watch.handle.stop())


@check("files.watch_dir")
async def watch_with_entries(run: Run) -> None:
    run.takes(type(run.sb.files).watch_dir, "include_entry", "allow_network_mounts")
    folder = await run.folder()
    watch = await Watch(run).open(folder, include_entry=True, allow_network_mounts=True)
    await go(run.sb.files.write(f"{folder}/f", "12345"))
    await watch.has("f", "write")
    entries = [event.entry for event in watch.events if event.name == "f" and event.entry]
    assert entries and entries[-1].path == f"{folder}/f", watch.events
    await go(watch.handle.stop())


@check("files.watch_dir")
async def watch_what_cannot_be(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.files.write(f"{folder}/f", ""))
    await run.raises("NotFoundException", lambda: Watch(run).open(f"{folder}/none"))
    await run.raises("InvalidArgumentException", lambda: Watch(run).open(f"{folder}/f"))
