#!/usr/bin/env bash
# Compares protos/ with the contracts of the last tag (buf's WIRE_JSON rules). Before the first release contracts may break, and
# CHANGELOG.md has a section about it. Fails if it cannot compare.
set -euo pipefail
cd "$(dirname "$0")/.."
buf=$PWD/${VENV:-.venv}/bin/buf
fail() { echo "check_breaking: $*" >&2; exit 1; }
[[ -x $buf ]] || fail "$buf is missing: run 'make setup-dev'"
git rev-parse --git-dir >/dev/null 2>&1 || fail "this is not a git repository, so there is nothing to compare with"

if tag=$(git describe --tags --abbrev=0 2>/dev/null); then
  old=$(mktemp -d)
  trap 'rm -rf "$old"' EXIT
  git archive "$tag" protos | tar -x -C "$old" || fail "$tag has no protos/"
  cd protos
  "$buf" breaking --against "$old/protos" || fail "protos/ break callers of $tag"
  exit
fi
[[ -z $(git tag) ]] || fail "there are tags, but none that this commit descends from"
# A shallow clone has no tags: the changelog knows if there should be one.
! grep -q '^## [0-9]' CHANGELOG.md || fail "CHANGELOG.md has a release, but its tag is not here: git fetch --unshallow --tags"
grep -q '^### Contracts$' CHANGELOG.md || fail "CHANGELOG.md has no section '### Contracts'"
echo "no release yet: contracts may break, and CHANGELOG.md lists how"
