#!/usr/bin/env bash
# All Rust tests, by cargo-nextest when it is there and by cargo test when not. Arguments are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."

scope=(--workspace)
if [ $# -gt 0 ]; then scope=("$@"); fi

# Whole-system tests start the binary. They build it when they must; it is better to wait for that here.
cargo build -p tertulia-server --bin tertulia

if command -v cargo-nextest >/dev/null; then
  # Examples in documentation are tests, too; nextest does not run them.
  cargo test --doc --all-features "${scope[@]}"
  cargo nextest run --all-features --no-fail-fast "${scope[@]}"
else
  echo "test: cargo-nextest is not installed, so this is cargo test"
  cargo test --all-features --no-fail-fast "${scope[@]}"
fi
