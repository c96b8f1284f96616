#!/usr/bin/env bash
# Resolves requirements/*.txt (hashed, no host named) from the parts' pyproject.toml files and requirements/*.in.
# With --check: fails where a lock no longer fits its sources. Versions change only when a lock is deleted first.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-${VENV:-.venv}/bin/uv}
out=requirements
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  cp requirements/*.txt requirements/*.in "$out"
fi

parts=(libs/mirage_protos libs/mirage_api libs/mirage_core libs/mirage_inference libs/mirage services/encoder services/retriever services/gateway services/llm services/generator services/reader models atlas launcher)
own=(--no-emit-package mirage-protos --no-emit-package mirage-api --no-emit-package mirage-client --no-emit-package mirage-core --no-emit-package mirage-inference --no-emit-package mirage-encoder
  --no-emit-package mirage-retriever --no-emit-package mirage-gateway --no-emit-package mirage-models
  --no-emit-package mirage-llm --no-emit-package mirage-generator --no-emit-package mirage-reader --no-emit-package mirage-atlas --no-emit-package mirage-launcher
  --no-emit-package mirage-training)
common=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "${own[@]}")

compile() { # compile NAME ARGUMENT...
  local name=$1; shift
  "$uv" pip compile "${common[@]}" "$@" --output-file "$out/$name.txt" >/dev/null
}

# The parts by path: a package of the same name in a registry can never take their place.
mine=$(mktemp)
trap 'rm -rf "$mine"; [[ $out == requirements ]] || rm -rf "$out"' EXIT
printf -- '-e %s\n' "${parts[@]}" >"$mine"
only() { # only PART...: these parts and the libraries, as a requirements file on standard output
  printf -- '-e %s\n' libs/mirage_protos libs/mirage_api libs/mirage_core "$@"
}

compile bootstrap "$out/bootstrap.in"
compile runtime "$mine"
compile dev -c "$out/runtime.txt" "$out/dev.in"
# What the images are built from. With OpenVINO where it is faster; a test has run the versions that dev.txt names.
for service in "encoder[openvino]" retriever gateway llm "generator[openvino]" reader; do
  inference=(); [[ $service == retriever || $service == gateway ]] || inference=(libs/mirage_inference)
  compile "${service%%[*}" -c "$out/runtime.txt" -c "$out/dev.txt" <(only "${inference[@]}" "services/$service")
done
# The reader that runs a model itself. No image has it.
compile reader-openvino-genai -c "$out/runtime.txt" -c "$out/dev.txt" <(only libs/mirage_inference "services/reader[openvino-genai]")
compile tools -c "$out/runtime.txt" "$out/tools.in" <(only libs/mirage atlas)
compile torch "$out/torch.in"
# torch and what it alone brings are in torch.txt.
mapfile -t heavy < <(sed -nE 's/^([a-z0-9_.-]+)==.*/\1/p' "$out/torch.txt" | grep -E '^(torch|torchvision|triton|nvidia-|cuda-)')
compile build "${heavy[@]/#/--no-emit-package=}" -c "$out/torch.txt" "$out/build.in" "$mine" <(printf -- '-e training\n')
# The same for the image that builds bundles: without the benchmarks' peers and the tests.
compile builder "${heavy[@]/#/--no-emit-package=}" -c "$out/torch.txt" -c "$out/build.txt" \
  <(only libs/mirage_inference libs/mirage atlas "models[build]")
# What exports a reading model. A test has run the versions that build.txt names. Without openvino-telemetry: it counts users, and
# only processes of MIRAGE refuse to import it.
compile reader-build "${heavy[@]/#/--no-emit-package=}" --no-emit-package openvino-telemetry -c "$out/torch.txt" -c "$out/build.txt" \
  "$out/reader-build.in"

if grep -nE '(https?|file)://' "$out"/*.txt; then
  echo "a lock names a host or a path" >&2; exit 1
fi
if [[ $out != requirements ]]; then
  for file in requirements/*.txt; do
    diff -u "$file" "$out/$(basename "$file")" || { echo "$file is stale: run 'make lock'" >&2; exit 1; }
  done
fi
