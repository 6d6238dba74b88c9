#!/usr/bin/env bash
# Builds the guest agent unless this very source is built already, and prints the path of the static binary.
#
# The binary lies in /var/cache/atoll/agent/<digest of its source>/atoll-agent, never changes there, and is shared by
# all checkouts and daemons of the machine; /var/cache/atoll/bin/atoll-agent, which daemons use, is the one built last.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${ATOLL_CACHE_DIR:-/var/cache/atoll}/agent
used=${ATOLL_CACHE_DIR:-/var/cache/atoll}/bin/atoll-agent

# By name and content of everything that goes into the binary.
digest=$(cd agent && find . \( -path ./target -o -path ./fuzz -o -path ./tests -o -path ./benches \) -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-32)
binary=$cache/$digest/atoll-agent

as_root() { if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi; }

if [[ ! -x $binary ]]; then
    echo 'agent: building it' >&2
    built=$(agent/build.sh)
    # The agent runs in any image, so it must not look for a libc there.
    if LC_ALL=C readelf --program-headers "$built" | grep -q INTERP; then
        echo "agent: $built is not static" >&2
        exit 1
    fi
    as_root mkdir -p "$cache"
    building=$(as_root mktemp -d "$cache/.building-XXXXXX")
    as_root install -m 0755 "$built" "$building/atoll-agent"
    as_root chmod 0755 "$building"
    as_root sync --file-system "$building"
    # Renamed in one step. When another build was first, its result is as good.
    as_root mv -T "$building" "$cache/$digest" 2>/dev/null || as_root rm -rf "$building"
fi
if [[ ! $used -ef $binary ]]; then
    as_root mkdir -p "${used%/*}"
    # A second name of the same file, swapped in one step: running sandboxes keep the one they were started with.
    as_root ln -f "$binary" "$used.$$"
    as_root mv -T "$used.$$" "$used"
fi
echo "$binary"
