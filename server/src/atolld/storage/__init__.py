"""Persistence: what was asked for, what runs, what happened. SQLite by default, PostgreSQL by URL."""
