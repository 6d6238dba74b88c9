"""Atoll against the bare runtime, in one run on one machine: `make bench`."""
