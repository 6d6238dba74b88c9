"""E2B's code interpreter clients, unmodified, against a real template."""
