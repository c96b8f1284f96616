#!/usr/bin/env bash
# Fails where protos/ breaks callers of the contracts as they stand on main (buf's WIRE_JSON rules).
set -euo pipefail
cd "$(dirname "$0")/.."
buf=$PWD/${VENV:-.venv}/bin/buf
base=$(git merge-base HEAD "${BASE:-origin/main}" 2>/dev/null || git rev-parse HEAD)
git cat-file -e "$base:protos/buf.yaml" 2>/dev/null || { echo "no contracts at $base to compare with"; exit 0; }
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$base" protos | tar -x -C "$old"
cd protos && "$buf" breaking --against "$old/protos"
