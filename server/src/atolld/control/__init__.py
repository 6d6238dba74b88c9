"""Use cases, one module a noun; no web framework and no call of the host below."""
