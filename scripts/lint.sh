#!/usr/bin/env bash
# `make lint`: everything that is checked without running the code.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

step 'ruff check' .venv/bin/ruff check .
step 'ruff format' .venv/bin/ruff format --check --quiet .
step 'mypy --strict (server)' .venv/bin/mypy --no-error-summary server/src server/tests
step 'mypy --strict (sdk)' .venv/bin/mypy --no-error-summary sdk/src sdk/tests
step 'import-linter' .venv/bin/lint-imports --no-cache
step 'shell syntax' bash -n scripts/*.sh
cd agent
step 'cargo fmt' cargo fmt --all --check
step 'cargo clippy' cargo clippy --quiet --locked --all-targets -- --deny warnings
