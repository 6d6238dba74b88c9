"""`python -m atolld.images`: build and look at templates without a daemon."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from atolld.foundation.errors import AtollError
from atolld.foundation.units import format_bytes
from atolld.images.progress import ProgressPrinter
from atolld.images.templates import DEFAULT_CACHE, TemplateStore


def main() -> int:
    """Exit status 0 when done, 1 with a sentence on stderr when not."""
    parser = argparse.ArgumentParser(prog="python -m atolld.images", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    ensure = commands.add_parser("ensure", help="build the template 'base' unless it is up to date; print its path")
    ensure.add_argument("--no-inherit-host", action="store_true", help="use the public mirror, not the machine's own")
    commands.add_parser("list", help="the templates that can be used")
    commands.add_parser("prune", help="remove layers that no template names and no sandbox uses")
    arguments = parser.parse_args()
    try:
        asyncio.run(_run(arguments))
    except AtollError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    store = TemplateStore(arguments.cache, inherit_host=not getattr(arguments, "no_inherit_host", False))
    if arguments.command == "ensure":
        printer = ProgressPrinter(sys.stderr)
        try:
            template = await store.ensure_base(printer)
        finally:
            printer.close()
        sys.stdout.write(f"{template.layers[0]}\n")
    elif arguments.command == "list":
        for template in store.list():
            paths = ":".join(str(layer) for layer in template.layers)
            sys.stdout.write(f"{template.name}\t{template.id}\t{format_bytes(template.size_bytes)}\t{paths}\n")
    else:
        for digest in await store.prune():
            sys.stdout.write(f"removed {digest}\n")


if __name__ == "__main__":
    sys.exit(main())
