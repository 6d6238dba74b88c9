#!/usr/bin/env bash
# Fetches Debian's registry for the tests of images, and prints the path of its program.
#
# The package is unpacked into the cache and not installed: it would start a service that nobody asked for. Where it
# cannot be had the tests that need it are skipped, with that reason, so this ends with status 0 all the same.
set -euo pipefail

program=${ATOLL_CACHE_DIR:-/var/cache/atoll}/bin/docker-registry

as_root() { if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi; }

if [[ ! -x $program ]]; then
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    chmod 0755 "$directory"
    if ! (cd "$directory" && apt-get -qq download docker-registry 2>"$directory/why"); then
        echo "registry: the package docker-registry cannot be had, tests with it are skipped: $(tail -n 1 "$directory/why")" >&2
        exit 0
    fi
    dpkg-deb --extract "$directory"/docker-registry_*.deb "$directory/unpacked"
    as_root install -D -m 0755 "$directory/unpacked/usr/bin/docker-registry" "$program"
fi
echo "$program"
