# Generated from `tests/_async/__init__.py` by `scripts/unasync.py`: change that, not this.
"""Tests of the asynchronous flavour: the source. `_sync` is generated from it by `scripts/unasync.py`."""
