#!/usr/bin/env bash
# Injects faults into the real server; arguments go to the program, such as `--seed 7 --only F22`. As root on
# Debian it installs libfaketime, without which the clock can not jump, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! compgen -G '/usr/lib*/*/faketime/libfaketimeMT.so.1' >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "faults: libfaketime is not installed, installing Debian's package"
  {
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends faketime
  } >/dev/null 2>&1 </dev/null || echo "faults: it can not be installed; the faults that need it are not run"
fi

# Both ends of every connection and the proxy between them are in two processes.
ulimit -n "$(ulimit -Hn)"

cargo build --quiet -p tertulia-server --bin tertulia
exec cargo run --quiet -p tertulia-tests --bin faults -- "$@"
