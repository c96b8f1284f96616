#!/usr/bin/env bash
# Runs the parts' own tests and the tests of the whole (tests/) side by side: tools/test.sh PYTEST... The output of the second
# comes after that of the first. Fails if either fails.
set -uo pipefail
cd "$(dirname "$0")/.."
units=${UNITS:-libs services atlas/tests launcher/tests models/tests training/tests}
log=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -f "$log"' EXIT
# No cache: the other one writes it.
"$@" -p no:cacheprovider ${WHOLE:-tests} >"$log" 2>&1 &
whole=$!
"$@" $units
failed=$?
wait "$whole" || failed=1
cat "$log"
exit "$failed"
