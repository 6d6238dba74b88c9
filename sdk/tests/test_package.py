"""The package as a whole: its public names, its generated half, its weight."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from inspect import ismodule
from pathlib import Path

import pytest

import atoll

SDK = Path(__file__).resolve().parent.parent


def test_the_public_names_are_sorted_and_whole() -> None:
    # Dunder names come last in ASCII order of letters and underscores, as everywhere in Python.
    assert atoll.__all__ == sorted(atoll.__all__)
    helpers = {"TYPE_CHECKING", "annotations", "import_module"}
    public = {name for name in dir(atoll) if not name.startswith("_") and not ismodule(getattr(atoll, name))}
    assert public - helpers == set(atoll.__all__) - {"__version__"}


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = atoll.Nothing  # type: ignore[attr-defined]


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


def test_the_sdk_loads_only_what_a_synchronous_program_needs() -> None:
    code = "import sys, atoll; print([m for m in ('atoll.cli', 'atolld', 'certifi', 'asyncio') if m in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout == "[]\n"
