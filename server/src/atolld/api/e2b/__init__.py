"""E2B's REST API, so that its own SDKs and command line work unmodified; see docs/e2b.md."""
