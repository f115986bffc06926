#!/usr/bin/env bash
# The whole-system tests of one node, unchanged, on two nodes with a PostgreSQL, a NATS and a Redis for each test; by
# cargo-nextest when it is there and by cargo test when not. Arguments are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."

# Those whose nodes stand on what TEST_STORE says. All others start what they need themselves, the same in every run.
suites=(bad_input control conversation every_endpoint_checks_access feed handing_on live presence protocol_examples transports)

# Four servers for each test, and tests side by side.
ulimit -n "$(ulimit -Hn)"

cargo build -p tertulia-server --bin tertulia

echo "On one node all the same, and why:"
grep -Hn 'Local::one("' tests/*.rs | sed -E 's/^([^:]+:[0-9]+):.*Local::one\("(.*)"\).*$/  \1: \2/'

export TEST_STORE=cluster
# All of the workspace, so that what is built is what the other tests have built.
if command -v cargo-nextest >/dev/null; then
  any="$(printf ' | binary(%s)' "${suites[@]}")"
  cargo nextest run --workspace --all-features --no-fail-fast -E "package(tertulia-tests) & (${any# | })" "$@"
else
  cargo test --workspace --all-features --no-fail-fast "${suites[@]/#/--test=}" "$@"
fi
