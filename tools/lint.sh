#!/bin/sh
# Every linter, all of them even when one complains.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
run() {
    echo "== $*"
    "$@" || status=1
}
run ruff check .
run ruff format --check .
run mypy app/flask_metrics tools dashboards bench lab/build.py lab/pin.py lab/vigielab roles/embedded/files roles/mail/files roles/preflight/files roles/docker/files collections/ansible_collections/vigie/observability/plugins
run yamllint --strict .
run ansible-lint --offline --profile production
exit $status
