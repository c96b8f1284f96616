#!/usr/bin/env bash
# Generates libs/mirage_protos/mirage_protos from protos/. With --check: fails if the tree differs from what would be generated.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/${VENV:-.venv}/bin
stubs=libs/mirage_protos/mirage_protos
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t files < <(cd protos && find mirage -name '*.proto' | sort)
mapfile -t services < <(cd protos && grep -rl --include='*.proto' '^service ' mirage | sort)
export PATH=$bin:$PATH
protoc() { "$bin/python" -m grpc_tools.protoc --proto_path=protos "$@"; }
protoc --python_out="$work" --mypy_out=quiet:"$work" "${files[@]}"
protoc --grpc_python_out="$work" --mypy_grpc_out=quiet:"$work" "${services[@]}"
# protoc names Python packages after the proto's path: mirage/v1 is mirage.v1. Here they are parts of mirage_protos.
find "$work" -name '*.py*' -exec sed -i -E 's/^(from|import) mirage\./\1 mirage_protos./; s/\bmirage\.((\w+\.)?v1\.\w+_pb2)/mirage_protos.\1/g' {} +
find "$work/mirage" -type d -exec touch {}/__init__.py ';'
echo '"""The generated messages and stubs of protos/; `make protos` generates them."""' >"$work/mirage/__init__.py"
touch "$work/mirage/py.typed"
if [[ ${1:-} == --check ]]; then
  diff -r --exclude=__pycache__ "$work/mirage" $stubs || { echo "$stubs is stale: run 'make protos'" >&2; exit 1; }
else
  rm -rf $stubs
  mkdir -p "$(dirname $stubs)"
  mv "$work/mirage" $stubs
fi
