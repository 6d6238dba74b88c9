"""Errors, ids, units, clock, task and cleanup helpers: what every floor may use."""
