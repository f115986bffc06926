#!/usr/bin/env bash
# Prints the path of a redis-server of 6.2 or newer: the one in PATH. As root on Debian it installs one when there is
# none, and says so.
set -euo pipefail

find_redis() {
  local program version
  program="$(command -v redis-server)" || return 1
  version="$("$program" --version | sed -n 's/.* v=\([0-9.]*\) .*/\1/p')"
  [ -n "$version" ] && [ "$(printf '%s\n' 6.2.0 "$version" | sort -V | head -n 1)" = 6.2.0 ] && echo "$program"
}

find_redis && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  # Tests that run side by side ask for it at the same time.
  exec 9>/tmp/tertulia-redis.lock
  flock 9
  find_redis && exit 0
  {
    echo "Installing redis-server with apt-get for the tests that need Redis." >&2
    apt-get update -qq
    # Only the program is wanted: in this runlevel no service is started.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server
  } >&2
  find_redis && exit 0
fi
echo "These tests need Redis 6.2 or newer: install redis-server." >&2
exit 1
