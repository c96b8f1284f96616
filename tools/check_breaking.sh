#!/usr/bin/env bash
# Compares protos/ with the contracts of the last tag (buf's WIRE_JSON rules). Before the first tag contracts may break, but
# CHANGELOG.md must have a section about it if protos/ differ from main's. Fails if it cannot compare.
set -euo pipefail
cd "$(dirname "$0")/.."
buf=$PWD/${VENV:-.venv}/bin/buf
fail() { echo "check_breaking: $*" >&2; exit 1; }
[[ -x $buf ]] || fail "$buf is missing: run 'make setup-dev'"
git rev-parse --git-dir >/dev/null 2>&1 || fail "this is not a git repository, so there is nothing to compare with"
[[ $(git rev-parse --is-shallow-repository) == false ]] || fail "the clone is shallow: run 'git fetch --unshallow --tags'"

if tag=$(git describe --tags --abbrev=0 2>/dev/null); then
  old=$(mktemp -d)
  trap 'rm -rf "$old"' EXIT
  git archive "$tag" protos | tar -x -C "$old" || fail "$tag has no protos/"
  cd protos
  "$buf" breaking --against "$old/protos" || fail "protos/ break callers of $tag"
  exit
fi
[[ -z $(git tag) ]] || fail "there are tags, but none that this commit descends from"

main=${BASE:-$(git rev-parse --verify --quiet --symbolic-full-name main || echo origin/main)}
base=$(git merge-base HEAD "$main" 2>/dev/null) || fail "there is no branch $main to compare with (set BASE)"
changed=$(git diff --name-only "$base" -- protos)
if [[ -z $changed ]]; then
  echo "no tag yet, and protos/ are those of $main"
else
  printf 'no tag yet; changed since %s:\n%s\n' "$main" "$changed"
  grep -q '^### Contracts$' CHANGELOG.md || fail "CHANGELOG.md has no section '### Contracts'"
fi
