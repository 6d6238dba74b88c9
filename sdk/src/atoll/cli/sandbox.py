"""`atoll sandbox`: create, list, look, kill. What looks does not wake: only `connect` resumes."""

from __future__ import annotations

import itertools
from typing import Any

import click

from atoll._errors import NotFound
from atoll._models import SandboxInfo
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import FAILED, OWN_FAILURE, Settings, json_option
from atoll.cli.options import create_arguments, pairs, sandbox_options
from atoll.cli.output import age, clean, print_fields, print_json, print_table, size

CREATE_EPILOG = """\b
Examples:
  id=$(atoll sandbox create --timeout 3600 --metadata run=7)
  atoll sandbox create --template before-upgrade                   from a snapshot
  atoll sandbox create --timeout 0 --idle-timeout 60 --pause-after 600
"""

LIVE_STATES = ("creating", "running", "frozen", "pausing", "paused", "resuming", "stopping")
STATES = (*LIVE_STATES, "ended")


@click.group()
@click.pass_context
def sandbox(context: click.Context) -> None:
    """Sandboxes that stay until they are killed or their time is over."""
    if context.invoked_subcommand in ("exec", "shell"):
        context.obj.own_failure = OWN_FAILURE


@sandbox.command(epilog=CREATE_EPILOG)
@sandbox_options
@click.option("--timeout", type=int, default=300, show_default=True, metavar="SECONDS", help="0 means: never ends.")
@json_option
@click.pass_obj
def create(settings: Settings, /, timeout: int, as_json: bool, **options: Any) -> None:
    """Make a sandbox and print its id."""
    made = Sandbox.create(
        **create_arguments(options), timeout_s=None if timeout == 0 else timeout, config=settings.config()
    )
    if as_json:
        print_json(made.created.raw)
    else:
        click.echo(made.id)


@sandbox.command("list")
@click.option("--state", multiple=True, type=click.Choice(STATES), help="Only those in it; may be repeated.")
@click.option("--all", "-a", "show_all", is_flag=True, help="Ended ones too, while they are remembered.")
@click.option("--template", help="Only those made from this template.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Only those with this entry; repeatable.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--quiet", "-q", is_flag=True, help="Ids only.")
@json_option
@click.pass_obj
def list_(
    settings: Settings,
    state: tuple[str, ...],
    show_all: bool,
    template: str | None,
    metadata: tuple[str, ...],
    limit: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Sandboxes of your project that have not ended, paused and frozen ones too, newest first."""
    states = list(state) or list(STATES if show_all else LIVE_STATES)
    wanted = pairs(metadata, "--metadata")
    listing = Sandbox.list(
        state=states, template=template, metadata=wanted, page_size=min(limit, 100), config=settings.config()
    )
    found = list(itertools.islice(listing, limit))
    if as_json:
        print_json([item.raw for item in found])
    elif quiet:
        for item in found:
            click.echo(item.id)
    else:
        headings = ("ID", "STATE", "TEMPLATE", "RUNTIME", "CPU", "MEMORY", "AGE", "ENDS IN", "METADATA")
        print_table(headings, [_row(item) for item in found])


@sandbox.command()
@click.argument("id")
@json_option
@click.pass_obj
def info(settings: Settings, id: str, as_json: bool) -> None:
    """One sandbox, as it is now."""
    found = Sandbox.get(id, config=settings.config()).created
    if as_json:
        print_json(found.raw)
        return
    print_fields(
        [
            ("id", found.id),
            ("state", found.state),
            ("template", found.template),
            ("runtime", found.runtime),
            ("cpu", found.cpu),
            ("memory", f"{found.memory_mib} MiB"),
            ("disk", f"{found.disk_mib} MiB"),
            ("processes", found.pids_max),
            ("internet", found.internet),
            ("started", found.started_at),
            ("paused", found.paused_at),
            ("ends", found.expires_at or "never"),
            ("on timeout", found.on_timeout),
            ("when idle", _idle(found)),
            ("checkpoint", found.head_id),
            ("metadata", found.metadata),
        ]
    )


@sandbox.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "-a", "kill_all", is_flag=True, help="All sandboxes of your project.")
@json_option
@click.pass_obj
def kill(settings: Settings, ids: tuple[str, ...], kill_all: bool, as_json: bool) -> int:
    """End sandboxes and remove everything of them. Fails when one of them is not there."""
    if bool(ids) == kill_all:
        raise click.UsageError("give the ids of sandboxes, or --all")
    config = settings.config()
    if kill_all:
        ids = tuple(item.id for item in Sandbox.list(state=LIVE_STATES, config=config))
    outcomes: dict[str, str] = {}
    for id in ids:
        try:
            outcomes[id] = "killed" if Sandbox.get(id, config=config).kill() else "not found"
        except NotFound:
            outcomes[id] = "not found"
    if as_json:
        print_json(outcomes)
    else:
        for id, outcome in outcomes.items():
            click.echo(f"{clean(id)}: {outcome}", err=outcome != "killed")
    # With --all, one that ended by itself meanwhile is as gone as the others.
    return FAILED if not kill_all and "not found" in outcomes.values() else 0


@sandbox.command()
@click.argument("id")
@json_option
@click.pass_obj
def metrics(settings: Settings, id: str, as_json: bool) -> None:
    """What a sandbox uses: samples of CPU, memory and disk."""
    samples = Sandbox.get(id, config=settings.config()).metrics()
    if as_json:
        print_json(samples)
        return
    print_table(
        ("TIME", "CPU", "MEMORY", "OF", "DISK", "OF"),
        [
            (
                sample.timestamp,
                f"{sample.cpu_used_pct:.1f} %",
                size(sample.memory_used_bytes),
                size(sample.memory_total_bytes),
                size(sample.disk_used_bytes),
                size(sample.disk_total_bytes),
            )
            for sample in samples
        ],
    )


@sandbox.command()
@click.argument("id")
@click.option("--bytes", "limit_bytes", type=click.IntRange(1, 2**20), default=2**16, show_default=True)
@json_option
@click.pass_obj
def logs(settings: Settings, id: str, limit_bytes: int, as_json: bool) -> None:
    """The end of the log of the sandbox's agent. It is written inside the sandbox: do not trust it."""
    entries = Sandbox.get(id, config=settings.config()).logs(limit_bytes=limit_bytes)
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        fields = " ".join(f"{name}={value}" for name, value in entry.fields.items())
        moment = entry.timestamp.astimezone().strftime("%H:%M:%S.%f")[:-3] if entry.timestamp else "-"
        click.echo(clean(f"{moment} {entry.level:<5} {entry.message} {fields}".rstrip().replace("\n", " ")))


def _idle(item: SandboxInfo) -> str | None:
    if item.idle_timeout_s is None:
        return None
    then = "" if item.pause_after_s is None else f", pause {item.pause_after_s} s later"
    return f"{item.on_idle} after {item.idle_timeout_s} s{then}"


def _row(item: SandboxInfo) -> tuple[object, ...]:
    # The time of a paused one stands still.
    ends = "-" if item.ended_at or item.paused_at else age(item.expires_at)
    memory = f"{item.memory_mib} MiB"
    began = item.started_at or item.created_at
    return item.id, item.state, item.template, item.runtime, item.cpu, memory, age(began), ends, item.metadata
