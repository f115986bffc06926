#!/usr/bin/env bash
# Prints where the server of an older version is, for tests that run two versions side by side. It is built from the
# commit in tests/older-version, once, beside what is built here. Ends with 3 when the clone does not have that commit.
set -euo pipefail
cd "$(dirname "$0")/.."

commit="$(cat tests/older-version)"
target="${CARGO_TARGET_DIR:-$HOME/.cache/tertulia/target}"
program="$target/older/$commit/tertulia"

if [ ! -x "$program" ]; then
  if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "this clone does not have the commit $commit of the older version; git fetch --unshallow" >&2
    exit 3
  fi
  echo "Building the server of $(git log -1 --format='%cs, %h' "$commit") to run beside this one." >&2
  mkdir -p "$target/older"
  # Whoever comes second waits and finds it there.
  exec 9>"$target/older/lock"
  flock 9
  # Always the same folder, so that what was built before it was interrupted is found again.
  source="$target/older/source"
  rm -rf "$source"
  mkdir -p "$source/web/dist"
  git archive "$commit" | tar -x -C "$source"
  # Nobody looks at its web client.
  [ -d web/dist ] && cp -r web/dist "$source/web/"
  (cd "$source" && CARGO_TARGET_DIR="$target" cargo build --quiet -p tertulia-server --bin tertulia) >&2
  mkdir -p "$(dirname "$program")"
  cp "$target/debug/tertulia" "$program.new"
  mv "$program.new" "$program"
  rm -rf "$source"
fi
echo "$program"
