#!/usr/bin/env bash
# `make compat`: installs E2B's own clients at every release in e2e/e2b/versions.toml, tries every public method of each
# against a daemon with gVisor, and writes docs/compatibility-e2b.md. Fails when something fails that is not a known gap.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh

step 'Machine: packages and runtimes' scripts/install.sh
step 'Python: .venv with locked dependencies' scripts/venv.sh dev
step 'Guest agent' scripts/agent.sh
step 'Template "base"' as_root .venv/bin/python -m atolld.images ensure
step "E2B's clients" as_root .venv/bin/python -m e2e.e2b.clients all
step "E2B's clients: every public method" as_root .venv/bin/python -m e2e.e2b.table
