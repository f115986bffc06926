#!/usr/bin/env bash
# Prints the folder with the programs of PostgreSQL. As root on Debian it installs it when there is none, and says so.
set -euo pipefail

find_postgres() {
  local folders=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin)
  for ((at = ${#folders[@]} - 1; at >= 0; at--)); do
    [ -x "${folders[at]}/initdb" ] && { echo "${folders[at]}"; return 0; }
  done
  local initdb
  initdb="$(command -v initdb)" && dirname "$(readlink -f "$initdb")"
}

find_postgres && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  # Tests that run side by side ask for it at the same time.
  exec 9>/tmp/tertulia-postgres.lock
  flock 9
  find_postgres && exit 0
  {
    echo "Installing postgresql with apt-get for the tests that need a database." >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common
    # No database of its own is wanted, only the programs.
    sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql openssl
  } >&2
  find_postgres && exit 0
fi
echo "These tests need PostgreSQL 13 or newer: install it." >&2
exit 1
