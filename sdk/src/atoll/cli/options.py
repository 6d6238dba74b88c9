"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def bounds_options(function: F) -> F:
    """What isolates a sandbox and what it may take. Left out, the template or the snapshot says."""
    for option in reversed(
        (
            click.option("--runtime", help="What isolates it  [default: gvisor]"),
            click.option("--cpu", type=float, help="Cores  [default: 1]"),
            click.option("--memory", type=int, metavar="MIB", help="Memory in MiB  [default: 512]"),
            click.option("--disk", type=int, metavar="MIB", help="Writable disk in MiB  [default: 10240]"),
            click.option("--pids", type=int, metavar="N", help="Processes and threads at once  [default: 1024]"),
        )
    ):
        function = option(function)
    return function


def policy_options(function: F) -> F:
    """What happens when its time is up, and while nobody uses it."""
    kinds = click.Choice(["kill", "pause"])
    deeds = click.Choice(["freeze", "pause"])
    for option in reversed(
        (
            click.option("--on-timeout", type=kinds, default="kill", show_default=True, help="When its time is up."),
            click.option("--idle-timeout", type=int, metavar="SECONDS", help="Idle for so long, do --on-idle."),
            click.option("--on-idle", type=deeds, default="freeze", show_default=True, help="Wakes by itself."),
            click.option("--pause-after", type=int, metavar="SECONDS", help="Frozen for so long, pause it to disk."),
            click.option("--files-only", is_flag=True, help="Those pauses keep files, not memory and processes."),
            click.option("--no-auto-resume", is_flag=True, help="Requests to it do not wake it from a pause."),
        )
    ):
        function = option(function)
    return function


def sandbox_options(function: F) -> F:
    """What a new sandbox is like."""
    function = policy_options(function)
    for option in reversed(
        (
            click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated."),
            click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Yours to filter by; repeatable."),
            click.option("--no-internet", is_flag=True, help="Nothing leaves the sandbox."),
        )
    ):
        function = option(function)
    function = bounds_options(function)
    return click.option("--template", default="base", show_default=True, help="A template, or a snapshot.")(function)


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
        "on_timeout": options["on_timeout"],
        "idle_timeout_s": options["idle_timeout"],
        "on_idle": options["on_idle"],
        "pause_after_s": options["pause_after"],
        "keep_memory": not options["files_only"],
        "auto_resume": not options["no_auto_resume"],
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
