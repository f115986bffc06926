#!/usr/bin/env bash
# Prints the path of a Chromium. As root on Debian it installs one when there is none, and says so.
set -euo pipefail

find_it() {
  local name
  for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name"; then return 0; fi
  done
  return 1
}

if find_it; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "chromium: not found, installing Debian's package" >&2
  {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
  } >&2 </dev/null
  if find_it; then exit 0; fi
fi
echo "The browser tests need Chromium: install it, or set CHROMIUM to its path." >&2
exit 1
