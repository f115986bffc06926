#!/usr/bin/env bash
# Runs every fuzz target for so many seconds. It needs neither cargo-fuzz nor a nightly compiler: the code is
# instrumented by the same flags, without the address sanitizer, because there is no unsafe code of ours.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-20}"
host="$(rustc -vV | sed -n 's/^host: //p')"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz"
export RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"

# With a target named, build scripts and macros are not instrumented.
cargo build --locked --release --manifest-path fuzz/Cargo.toml --target "$host" --bins

failed=0
for source in fuzz/fuzz_targets/*.rs; do
  name="$(basename "$source" .rs)"
  mkdir -p "fuzz/corpus/$name" "fuzz/artifacts/$name"
  seeds=()
  if [ -d "fuzz/seeds/$name" ]; then seeds=("fuzz/seeds/$name"); fi
  log="fuzz/artifacts/$name.log"
  if "$CARGO_TARGET_DIR/$host/release/$name" "fuzz/corpus/$name" "${seeds[@]}" -artifact_prefix="fuzz/artifacts/$name/" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 >"$log" 2>&1; then
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    echo "fuzz: $name: nothing found in ${runs:-?} runs"
  else
    failed=1
    tail -n 40 "$log"
    echo "fuzz: $name: FAILED; the input is in fuzz/artifacts/$name, the log in $log"
  fi
done
exit "$failed"
