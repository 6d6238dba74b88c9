#!/usr/bin/env bash
# Makes .venv with the locked dependencies and the two packages of this tree, unless it is up to date.
#
#   scripts/venv.sh runtime    what the server and the SDK need
#   scripts/venv.sh dev        that, and what the tests and linters need
#
# pip's own configuration applies (index, certificates, proxies); the hashes of the lock file hold whatever it says.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
set=${1:?runtime or dev}
lock=requirements/$set.txt
[[ -f $lock ]] || { echo "venv: $set is neither runtime nor dev" >&2; exit 2; }

# What is installed depends on these and on nothing else; the stamp is in .venv, so it goes with it. The directory is
# part of it because a virtual environment cannot be moved.
inputs=$({ pwd; sha256sum "$lock" server/pyproject.toml sdk/pyproject.toml scripts/venv.sh; } | sha256sum | cut -d' ' -f1)
stamp=.venv/.atoll-$set
if [[ -f $stamp && $(<"$stamp") == "$inputs" && -x .venv/bin/python ]]; then exit 0; fi
# dev contains runtime.
if [[ $set == runtime && -f .venv/.atoll-dev && -x .venv/bin/python ]]; then
    dev=$({ pwd; sha256sum requirements/dev.txt server/pyproject.toml sdk/pyproject.toml scripts/venv.sh; } | sha256sum | cut -d' ' -f1)
    if [[ $(<.venv/.atoll-dev) == "$dev" ]]; then exit 0; fi
fi

if ! .venv/bin/python -c '' 2>/dev/null; then
    echo "venv: making .venv with $("$PYTHON" --version)"
    "$PYTHON" -m venv --clear .venv
fi
echo "venv: installing $(grep -c '==' "$lock") locked packages from $lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
# The build backend is among them, so this needs no network and takes nothing that is not locked.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e server -e sdk
rm -f .venv/.atoll-*
echo "$inputs" >"$stamp"
