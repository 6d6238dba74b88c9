#!/usr/bin/env bash
# `make lint`: everything that is checked without running the code.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

try 'ruff check' .venv/bin/ruff check .
try 'ruff format' .venv/bin/ruff format --check --quiet .
try 'mypy --strict (server)' .venv/bin/mypy --no-error-summary server/src server/tests
try 'mypy --strict (sdk)' .venv/bin/mypy --no-error-summary sdk/src sdk/tests
try 'mypy --strict (interpreter)' .venv/bin/mypy --no-error-summary interpreter/src interpreter/kernels interpreter/tests
try 'mypy --strict (the rest)' .venv/bin/mypy --no-error-summary examples scripts bench e2e
try 'import-linter' .venv/bin/lint-imports --no-cache
try 'lock files' .venv/bin/python scripts/check_lock.py
try 'shell syntax' bash -n scripts/*.sh
cd agent
try 'cargo fmt' cargo fmt --all --check
try 'cargo clippy' cargo clippy --quiet --locked --all-targets -- --deny warnings
report
