#!/usr/bin/env bash
# Tertulia and what one would pick instead, side by side on this machine; bench/peers/README.md explains them.
# Arguments go to the program, such as `--quick --only nats,socketio`; `--help` lists them, and `--check` alone checks
# its code instead. As root on Debian it installs the servers that are absent, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
manifest=bench/peers/Cargo.toml
# A workspace of its own, so a folder of its own.
own=(env CARGO_TARGET_DIR="$target/peers" cargo)

if [ "${1:-}" = --check ]; then
  "${own[@]}" fmt --manifest-path "$manifest" --check
  "${own[@]}" clippy --quiet --locked --manifest-path "$manifest" --all-targets -- -D warnings
  exec "${own[@]}" test --quiet --locked --manifest-path "$manifest"
fi

"${own[@]}" build --locked --release --manifest-path "$manifest"
peers="$target/peers/release/peers"
for argument in "$@"; do
  case "$argument" in --help | -h | --list) exec "$peers" "$@" ;; esac
done
wanted="$("$peers" --list "$@")"

wants() { grep -q "^$1" <<<"$wanted"; }

# Installs Debian's packages, without starting what they bring along as services.
install() {
  local name="$1" policy=/usr/sbin/policy-rc.d own_policy=
  shift
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "bench-peers: $name is not installed; as root on Debian it would be now" >&2
    return
  fi
  echo "bench-peers: $name is not installed, installing Debian's packages: $*" >&2
  if [ ! -e "$policy" ]; then
    own_policy=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  {
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  } >/dev/null 2>&1 </dev/null || echo "bench-peers: $name can not be installed" >&2
  if [ -n "$own_policy" ]; then rm "$policy"; fi
}

if wants nats && ! command -v nats-server >/dev/null; then install NATS nats-server; fi
if wants ejabberd && ! compgen -G '/usr/lib/*/ejabberd-*/ebin/ejabberd.app' >/dev/null; then
  install ejabberd ejabberd erlang-p1-sqlite3
fi
packages=bench/peers/socketio
if wants socketio && command -v npm >/dev/null &&
  [ ! "$packages/node_modules/.package-lock.json" -nt "$packages/package-lock.json" ]; then
  if npm --prefix "$packages" ci --no-audit --no-fund >&2; then
    touch "$packages/node_modules/.package-lock.json"
  else
    echo "bench-peers: the packages of the Socket.IO server can not be installed" >&2
  fi
fi
if wants tertulia; then
  # The web client is in the binary.
  { make web && cargo build --release -p tertulia-server --bin tertulia; } >&2 ||
    echo "bench-peers: Tertulia can not be built" >&2
fi

# Both ends of every connection are on this machine.
ulimit -n "$(ulimit -Hn)"

exec "$peers" --tertulia "$target/release/tertulia" "$@"
