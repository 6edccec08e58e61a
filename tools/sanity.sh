#!/bin/sh
# ansible-test sanity for the collection, in a home of its own so that the user's stays untouched.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
python=$(dirname "$(command -v ansible-test)")/python
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
pip_config=${PIP_CONFIG_FILE:-$HOME/.config/pip}
HOME=${VIGIE_STATE_DIR:-$HOME/.local/state/vigie}/sanity
export HOME
mkdir -p "$HOME/.ansible/test/cache" "$HOME/.config"
[ ! -e "$pip_config" ] || ln -sfn "$pip_config" "$HOME/.config/pip"
# Where ansible-test looks for the installer that it would download otherwise.
cp "$repository/tools/get_pip.py" "$HOME/.ansible/test/cache/get_pip_24_2.py"
cd collections/ansible_collections/vigie/observability
exec ansible-test sanity --color no --python "$version" "$@"
