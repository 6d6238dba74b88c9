"""`atoll pool`: running sandboxes kept ready."""

from __future__ import annotations

import click

from atoll._config import Config
from atoll._errors import InvalidArgument, NotFound
from atoll._sync.pools import Pool
from atoll.cli.context import Settings, json_option
from atoll.cli.options import bounds_options
from atoll.cli.output import clean, print_fields, print_json, print_table

EPILOG = """\b
Examples:
  atoll pool set base --ready 4
  atoll pool set base --ready 2 --memory 2048
  atoll pool list
  atoll pool delete base

A POOL is named by its id, or by its template when that has only one.
"""


@click.group(epilog=EPILOG)
def pool() -> None:
    """Running sandboxes kept ready: a create that finds one takes a fraction of the time."""


@pool.command("set", epilog="\b\nExample:\n  atoll pool set base --ready 4")
@click.argument("template")
@click.option("--ready", type=click.IntRange(0, 1000), required=True, metavar="N", help="How many to keep waiting.")
@bounds_options
@json_option
@click.pass_obj
def set_(
    settings: Settings,
    template: str,
    ready: int,
    runtime: str | None,
    cpu: float | None,
    memory: int | None,
    disk: int | None,
    pids: int | None,
    as_json: bool,
) -> None:
    """Keep N sandboxes of TEMPLATE (or of a snapshot) waiting from now on, and print the pool's id.

    They start in the background and take no room that the machine does not have. A create that asks for the same
    template, runtime and bounds is given one of them.
    """
    made = Pool.set(
        template,
        ready=ready,
        runtime=runtime,
        cpu=cpu,
        memory_mib=memory,
        disk_mib=disk,
        pids_max=pids,
        config=settings.config(),
    )
    if as_json:
        print_json(made.info.raw)
    else:
        click.echo(made.id)


@pool.command("list", epilog="\b\nExample:\n  atoll pool list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """The project's pools, and how full they are."""
    found = [one.info for one in Pool.list(config=settings.config())]
    if as_json:
        print_json([one.raw for one in found])
        return
    headings = ("ID", "TEMPLATE", "RUNTIME", "CPU", "MEMORY", "READY", "WARM", "STARTING", "CLAIMS", "MISSES", "NOTE")
    rows = [
        (
            *(one.id, one.template, one.runtime, one.cpu, f"{one.memory_mib} MiB"),
            *(one.ready, one.warm, one.starting, one.claims, one.misses, one.message),
        )
        for one in found
    ]
    print_table(headings, rows)


@pool.command(epilog="\b\nExample:\n  atoll pool info base")
@click.argument("pool")
@json_option
@click.pass_obj
def info(settings: Settings, pool: str, as_json: bool) -> None:
    """One pool."""
    found = _find(pool, settings.config()).info
    if as_json:
        print_json(found.raw)
        return
    print_fields(
        [
            ("id", found.id),
            ("template", found.template),
            ("runtime", found.runtime),
            ("cpu", found.cpu),
            ("memory", f"{found.memory_mib} MiB"),
            ("disk", f"{found.disk_mib} MiB"),
            ("processes", found.pids_max),
            ("ready", found.ready),
            ("warm", found.warm),
            ("starting", found.starting),
            ("claims", found.claims),
            ("misses", found.misses),
            ("note", found.message),
        ]
    )


@pool.command(epilog="\b\nExample:\n  atoll pool delete base")
@click.argument("pool")
@json_option
@click.pass_obj
def delete(settings: Settings, pool: str, as_json: bool) -> None:
    """End what waits in a pool and forget it. Sandboxes that were claimed go on."""
    found = _find(pool, settings.config())
    if not found.delete():
        raise NotFound(f"there is no pool {pool!r}")
    if as_json:
        print_json({"id": found.id, "deleted": True})
    else:
        click.echo(f"{clean(found.id)}: deleted")


def _find(id_or_template: str, config: Config) -> Pool:
    pools = Pool.list(config=config)
    for one in pools:
        if one.id == id_or_template:
            return one
    named = [one for one in pools if one.template == id_or_template]
    if not named:
        raise NotFound(f"there is no pool {id_or_template!r}; 'atoll pool list' shows all")
    if len(named) > 1:
        raise InvalidArgument(
            f"{id_or_template!r} has {len(named)} pools; name one: {', '.join(one.id for one in named)}"
        )
    return named[0]
