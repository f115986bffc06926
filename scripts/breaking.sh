#!/usr/bin/env bash
# Compares the contract with that of the newest release: what clients in the field speak must still be
# understood. Argument: the buf binary.
set -euo pipefail
cd "$(dirname "$0")/.."
buf="$PWD/$1"

if ! tag="$(git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null)"; then
  echo "contract: there is no release tag yet, so there is nothing to be compatible with"
  exit 0
fi
before="$(mktemp -d)"
trap 'rm -rf "$before"' EXIT
git archive "$tag" proto buf.yaml | tar -x -C "$before"
"$buf" breaking --against "$before"
echo "contract: compatible with $tag"
