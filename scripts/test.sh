#!/usr/bin/env bash
# `make test`: installs what is missing, then checks and runs everything, on the real runtimes too.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

cargo_tests() { (cd agent && cargo test --quiet --locked); }

began=$EPOCHREALTIME
step 'Machine: packages and runtimes' scripts/install.sh
step 'Python: .venv with locked dependencies' scripts/venv.sh dev
step 'Guest agent' scripts/agent.sh
step 'Template "base"' as_root .venv/bin/python -m atolld.images ensure
step 'Registry for the tests of images' scripts/registry.sh
step 'Lint' scripts/lint.sh
step 'Guest agent: tests' cargo_tests
# Side by side: they share nothing, and most of their time is spent on cores.
step 'Python: unit tests' .venv/bin/python -m pytest -q -m 'not real' -n auto
# What is claimed about isolation is only true where it was tried: these need root and the machine's own runtimes.
step 'Python: tests on the real runtimes' as_root .venv/bin/python -m pytest -q -m real --durations=20
printf '\nAll of it passed in %s.\n' "$(elapsed "$began")"
