#!/usr/bin/env bash
# `make run`: from whatever state the machine is in to a first session in a sandbox. Steps with nothing to do are quick.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

began=$EPOCHREALTIME
step 'Machine: packages and runtimes' scripts/install.sh
step 'Python: .venv with locked dependencies' scripts/venv.sh runtime
step 'Guest agent' scripts/agent.sh
step 'Template "base"' as_root .venv/bin/python -m atolld.images ensure
step 'Server' as_root .venv/bin/atolld start
# As the person at the keyboard: starting the server gave them a key of their own.
step 'First session: examples/first_session.py' .venv/bin/python examples/first_session.py
printf '\nAll of it took %s.\n' "$(elapsed "$began")"
