#!/bin/bash
# Every test, cheapest first; each step runs, and the closing lines say what passed and what did not.
set -u
cd "$(dirname "$0")/.." || exit 1
logs=out/test
rm -rf "$logs"
mkdir -p "$logs"
report="$logs/report.txt"
passed=0
failed=()
step() {
    name=$1
    shift
    echo
    echo "==== $name: $*"
    started=$(date +%s)
    "$@" 2>&1 | tee "$logs/$name.log"
    if [ "${PIPESTATUS[0]}" -eq 0 ]; then word=passed; passed=$((passed + 1)); else word=FAILED; failed+=("$name"); fi
    printf '%-28s %s  %4d s\n' "$name" "$word" $(($(date +%s) - started)) >> "$report"
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

{
    echo
    echo "$passed passed, ${#failed[@]} failed"
    for name in "${failed[@]}"; do
        echo
        echo "---- the end of $name, whole in $logs/$name.log"
        tail -n 40 "$logs/$name.log"
    done
} >> "$report"
echo
cat "$report"
[ "${#failed[@]}" -eq 0 ]
