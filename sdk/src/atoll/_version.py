"""The SDK's version; the package's metadata says the same (a test compares them)."""

__version__ = "0.1.0"
