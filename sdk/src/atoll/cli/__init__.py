"""The command line `atoll`."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process; never returns normally."""
    # Only here: importing the SDK for its own sake must not load the command line.
    from atoll.cli.app import run_command_line

    run_command_line()
