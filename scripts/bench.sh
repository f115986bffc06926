#!/usr/bin/env bash
# What Tertulia costs on this machine, with the method beside each figure; docs/performance.md explains them.
# Arguments go to `tertulia load bench`, such as --quick.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p tertulia-server --bin tertulia
exec "${CARGO_TARGET_DIR:-target}/release/tertulia" load bench --out target/bench.json "$@"
