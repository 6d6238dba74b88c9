"""The package as a whole: its public names, its generated half, its weight."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import atoll

SDK = Path(__file__).resolve().parent.parent


def test_the_public_names_are_sorted_and_whole() -> None:
    # Dunder names come last in ASCII order of letters and underscores, as everywhere in Python.
    assert atoll.__all__ == sorted(atoll.__all__)
    public = {name for name, value in vars(atoll).items() if not name.startswith("_") and not _is_module(value)}
    assert public == set(atoll.__all__) - {"__version__"}


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_every_public_name_has_a_docstring() -> None:
    missing = [
        name for name in atoll.__all__ if name not in ("Event", "__version__") and not getattr(atoll, name).__doc__
    ]
    assert missing == []


def test_the_version_is_the_packages() -> None:
    assert atoll.__version__ == version("atoll")


def test_the_synchronous_flavour_is_what_its_source_gives() -> None:
    outcome = subprocess.run(
        [sys.executable, str(SDK / "scripts" / "unasync.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_the_sdk_loads_neither_the_command_line_nor_ssl_stores() -> None:
    code = "import sys, atoll; print([m for m in ('atoll.cli', 'atolld', 'certifi') if m in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "atoll.cli" not in outcome.stdout
    assert "atolld" not in outcome.stdout
