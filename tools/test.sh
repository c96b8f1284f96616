#!/usr/bin/env bash
# Runs the parts' own tests and the tests of the whole (tests/) side by side: tools/test.sh PYTHON. The output of the second comes
# after that of the first. Fails if either fails. With COVERAGE=1 the first measures what it covers; the second, whose times are
# those of a user's machine, does not.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
units=${UNITS:-libs services atlas/tests launcher/tests models/tests training/tests}
log=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -f "$log"' EXIT
# No cache: the other one writes it.
"$python" -m pytest -p no:cacheprovider ${WHOLE:-tests} >"$log" 2>&1 &
whole=$!
"$python" -m ${COVERAGE:+coverage run -m} pytest $units
failed=$?
wait "$whole" || failed=1
cat "$log"
exit "$failed"
