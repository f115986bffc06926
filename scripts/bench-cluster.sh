#!/usr/bin/env bash
# What direct messages cost on the embedded store, on PostgreSQL, and on two nodes, in one run on this machine.
# Arguments go to the program, such as --runs 1 --seconds 3.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p tertulia-server --bin tertulia
cargo build -p tertulia-tests --bin costs
mkdir -p target
exec "$target/debug/costs" --program "$target/release/tertulia" --out target/bench-cluster.json "$@"
