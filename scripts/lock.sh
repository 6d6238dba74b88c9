#!/usr/bin/env bash
# Locks the Python dependencies: writes requirements/runtime.txt and requirements/dev.txt, and for the code interpreter's
# template interpreter/requirements/server.txt and kernels.txt; every file with its hashes.
#
#   scripts/lock.sh [--upgrade]
#
# Run it after a change of a pyproject.toml, with the packages' public index in reach. Needs uv (pip install uv).
# The results name no index: pip uses the one that the machine is configured for, and the hashes hold whatever it is.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v uv >/dev/null || { echo 'lock: uv is missing: pip install uv' >&2; exit 1; }

compile() { # output, further arguments...
    local output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command 'scripts/lock.sh' --output-file "$output" "$@"
    if grep -nE '^(--|-f|-i)|https?://' "$output"; then
        echo "lock: $output names a place to download from" >&2
        exit 1
    fi
    echo "lock: $output: $(grep -c '==' "$output") packages"
}

upgrade=()
if [[ ${1:-} == --upgrade ]]; then upgrade=(--upgrade); fi
ours=(server/pyproject.toml sdk/pyproject.toml requirements/build.in)
compile requirements/runtime.txt "${ours[@]}" "${upgrade[@]}"
compile interpreter/requirements/server.txt interpreter/pyproject.toml "${upgrade[@]}"
compile interpreter/requirements/kernels.txt interpreter/requirements/kernels.in "${upgrade[@]}"
# Constrained by the others, so that tests run against what users get.
compile requirements/dev.txt "${ours[@]}" interpreter/pyproject.toml "${upgrade[@]}" \
    --extra dev --extra postgres --extra archive \
    --constraint requirements/runtime.txt --constraint interpreter/requirements/server.txt
