#!/usr/bin/env bash
# Says what is missing when the web client can not be built here.
set -euo pipefail

need="20.19"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "The web client needs Node.js $need or newer, with npm: https://nodejs.org" >&2
  exit 1
fi
have="$(node --version)"
if [ "$(printf '%s\n%s\n' "$need" "${have#v}" | sort -V | head -n 1)" != "$need" ]; then
  echo "The web client needs Node.js $need or newer; this is $have." >&2
  exit 1
fi
