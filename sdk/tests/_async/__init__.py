"""Tests of the asynchronous flavour: the source. `_sync` is generated from it by `scripts/unasync.py`."""
