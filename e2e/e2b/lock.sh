#!/usr/bin/env bash
# Locks the official clients named in versions.toml: writes clients/<flavour>-<version>/, every package with its hash.
#
#   e2e/e2b/lock.sh
#
# Run it after a change of versions.toml, with the packages' public indexes in reach. Needs uv (pip install uv) and npm.
# The results name no place to download from: pip and npm use the one that the machine is configured for.
set -euo pipefail
cd "$(dirname "$0")"

command -v uv >/dev/null || { echo 'lock: uv is missing: pip install uv' >&2; exit 1; }

declare -A package=(
    [py]=e2b [js]=e2b [cli]=@e2b/cli [interpreter-py]=e2b-code-interpreter [interpreter-js]=@e2b/code-interpreter
)

python3 -c '
import tomllib
for table, clients in tomllib.load(open("versions.toml", "rb")).items():
    for client in clients:
        print(("" if table == "client" else table + "-") + client["flavour"], client["version"])
' | while read -r flavour version; do
    into=clients/$flavour-$version
    mkdir -p "$into"
    if [[ $flavour == *py ]]; then
        uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
            --no-emit-find-links --no-annotate --custom-compile-command 'e2e/e2b/lock.sh' \
            --output-file "$into/requirements.txt" - <<<"${package[$flavour]}==$version"
    else
        # npm takes a lock file in the way for what is wanted, so it starts afresh.
        rm -f "$into/package-lock.json"
        printf '{"private": true, "dependencies": {"%s": "%s"}}\n' "${package[$flavour]}" "$version" >"$into/package.json"
        (cd "$into" && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund </dev/null)
    fi
    echo "lock: $into"
done
if grep -rnE '^(--|-f|-i)|"resolved": *"https?://' clients; then
    echo 'lock: clients/ names a place to download from' >&2
    exit 1
fi
