#!/bin/sh
# Every test, cheapest first; each step runs, and the closing lines say what passed and what did not.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
report=""
step() {
    name=$1
    shift
    echo
    echo "==== $name: $*"
    started=$(date +%s)
    if "$@"; then word=passed; passed=$((passed + 1)); else word=FAILED; failed=$((failed + 1)); fi
    report="$report
$(printf '%-28s %s  %4d s' "$name" "$word" $(($(date +%s) - started)))"
}
export ANSIBLE_FORCE_COLOR=0 PY_COLORS=0 NO_COLOR=1

step lint tools/lint.sh
step packages make -s packages
step units python -m pytest -q app/tests collections/ansible_collections/vigie/observability/tests/unit tests/repository lab/tests
step rules python -m pytest -q tests/rules tests/charts
step programs python -m pytest -q tests/programs
step contracts python -m pytest -q tests/contract tests/contract_mail
step broken-links python -m pytest -q tests/broken_links
step molecule molecule test
step sanity tools/sanity.sh

echo "$report"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
