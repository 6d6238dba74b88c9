"""`atoll key`: API keys of your project."""

from __future__ import annotations

import click

from atoll._sync.daemon import Daemon
from atoll.cli.context import Settings, json_option
from atoll.cli.output import note, print_json, print_table


@click.group()
def key() -> None:
    """API keys of your project."""


@key.command()
@click.argument("name")
@json_option
@click.pass_obj
def create(settings: Settings, name: str, as_json: bool) -> None:
    """Make a key and print its secret, which is shown this once only."""
    made = Daemon(settings.config()).create_key(name)
    if as_json:
        print_json(made)
        return
    click.echo(str(made.get("secret", "")))
    note("keep it: it cannot be shown again. Programs find it in ATOLL_API_KEY.")


@key.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """The project's keys, without their secrets."""
    keys = Daemon(settings.config()).keys()
    if as_json:
        print_json(keys)
        return
    columns = ("id", "name", "prefix", "created_at", "last_used_at", "revoked_at")
    print_table([name.upper() for name in columns], [[item.get(name) for name in columns] for item in keys])


@key.command()
@click.argument("id")
@json_option
@click.pass_obj
def revoke(settings: Settings, id: str, as_json: bool) -> None:
    """End a key; it is refused from now on."""
    Daemon(settings.config()).revoke_key(id)
    if as_json:
        print_json({"id": id, "revoked": True})
    else:
        click.echo(f"key {id} is revoked")
