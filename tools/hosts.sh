#!/bin/sh
# The roles of the host on three real hosts: systemd in containers of a Docker that is brought for them and removed again.
# Arguments go to pytest.
set -u
cd "$(dirname "$0")/.." || exit 1
export ANSIBLE_FORCE_COLOR=0 PY_COLORS=0 NO_COLOR=1
# Its own record of what was brought: a lab of this user stays as it is.
state="${VIGIE_HOSTS_STATE:-/tmp/vigie-hosts}"

here() {
    VIGIE_STATE_DIR="$state" ansible-playbook -i inventory/minikube tests/hosts/here.yml -e "state=$1"
}
leave() {
    here absent
    rm -rf "$state"
}
stop() {
    leave
    exit 130
}
trap stop INT TERM

if ! command -v mmdebstrap > /dev/null; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "hosts: mmdebstrap, which makes the hosts' file systems, is missing; run 'sudo apt-get install mmdebstrap' and try again." >&2
        exit 1
    fi
    apt-get update --quiet > /dev/null && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends mmdebstrap > /dev/null || exit 1
fi
here present || { leave; exit 1; }
# Whoever asks for these tests wants no skipped ones.
VIGIE_TEST_HOSTS=1 python -m pytest -q tests/hosts "$@"
status=$?
leave || status=1
exit $status
