#!/usr/bin/env bash
# Builds the static guest agent into agent/target/release/atoll-agent and prints that path.
set -euo pipefail
cd "$(dirname "$0")"
cargo=$(command -v cargo || echo "${CARGO_HOME:-$HOME/.cargo}/bin/cargo")
host=$("$(dirname "$cargo")/rustc" -vV | sed -n 's/^host: //p')
"$cargo" build --release --locked --quiet >&2
built=${CARGO_TARGET_DIR:-target}/$host/release/atoll-agent
mkdir -p target/release
# A new file under the old name: the old one may be running somewhere.
cp "$built" target/release/.atoll-agent.$$
mv target/release/.atoll-agent.$$ target/release/atoll-agent
echo "$PWD/target/release/atoll-agent"
