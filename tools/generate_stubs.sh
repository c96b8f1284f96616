#!/usr/bin/env bash
# Generates libs/mirage/mirage/v1 from protos/. With --check: fails where the tree differs from what would be generated.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/${VENV:-.venv}/bin
out=libs/mirage
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
PATH=$bin:$PATH "$bin/python" -m grpc_tools.protoc --proto_path=protos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  protos/mirage/v1/*.proto
cat >"$out/mirage/v1/__init__.py" <<'EOF'
"""The generated messages and stubs of protos/mirage/v1; `make protos` generates them."""
EOF
if [[ ${1:-} == --check ]]; then
  diff -r --exclude=__pycache__ "$out/mirage/v1" libs/mirage/mirage/v1 ||
    { echo "libs/mirage/mirage/v1 is stale: run 'make protos'" >&2; exit 1; }
fi
