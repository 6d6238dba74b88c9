"""Layers and templates: what a sandbox's root file system is made of, and how the template `base` is built."""
