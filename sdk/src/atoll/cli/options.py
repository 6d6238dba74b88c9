"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def sandbox_options(function: F) -> F:
    """What a new sandbox is like."""
    for option in reversed(
        (
            click.option("--template", default="base", show_default=True, help="What it starts from."),
            click.option("--runtime", default="gvisor", show_default=True, help="What isolates it."),
            click.option("--cpu", type=float, default=1.0, show_default=True, help="Cores."),
            click.option("--memory", type=int, default=512, show_default=True, metavar="MIB", help="Memory in MiB."),
            click.option("--disk", type=int, metavar="MIB", help="Writable disk in MiB  [default: 10240]"),
            click.option("--pids", type=int, metavar="N", help="Processes and threads at once  [default: 1024]"),
            click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated."),
            click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Yours to filter by; repeatable."),
            click.option("--no-internet", is_flag=True, help="Nothing leaves the sandbox."),
        )
    ):
        function = option(function)
    return function


def create_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Sandbox.create` for the options of `sandbox_options`."""
    return {
        "template": options["template"],
        "runtime": options["runtime"],
        "cpu": options["cpu"],
        "memory_mib": options["memory"],
        "disk_mib": options["disk"],
        "pids_max": options["pids"],
        "envs": pairs(options["env"], "--env"),
        "metadata": pairs(options["metadata"], "--metadata"),
        "internet": not options["no_internet"],
    }


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary. Raises a usage error for one without a name or a `=`."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {value!r} is not of the form NAME=VALUE")
        found[name] = rest
    return found


def command_options(function: F) -> F:
    """How a command is run in a sandbox."""
    for option in reversed(
        (
            click.option("--cwd", "-w", metavar="DIR", help="Directory to run in  [default: the user's home]"),
            click.option("--user", "-u", metavar="NAME", help="User to run as  [default: user]"),
            click.option("--no-stdin", "-n", is_flag=True, help="Leave this program's standard input alone."),
        )
    ):
        function = option(function)
    return function
