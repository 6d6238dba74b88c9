#!/usr/bin/env bash
# `make bench`: everything in place, then each operation beside the bare runtime's, into docs/benchmarks.md.
# Options: --quick, --only GROUP, --json, --write FILE (python -m bench --help).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

step 'Machine: packages and runtimes' scripts/install.sh
step 'Python: .venv with locked dependencies' scripts/venv.sh dev
step 'Guest agent' scripts/agent.sh
step 'Template "base"' as_root .venv/bin/python -m atolld.images ensure
step 'Measurements' as_root .venv/bin/python -m bench "$@"
