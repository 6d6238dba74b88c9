"""Builds: plans become layers, and layers become versions of templates."""
