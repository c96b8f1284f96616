#!/usr/bin/env bash
# Starts what WebKit needs, and runs the journeys: run.sh URL [ENGINE...], or SCRIPT=site.mjs run.sh FOLDER [ENGINE...]
set -euo pipefail
cd "$(dirname "$0")"
export LANG=C.UTF-8
exec xvfb-run --auto-servernum bash -c '
  WebKitWebDriver --port=4445 & driver=$!
  trap "kill $driver" EXIT
  node "${SCRIPT:-run.mjs}" "$@"' run "$@"
