#!/bin/sh
# The base of the application's image: called with the root and the result of python-packages.
set -eu
root=$1 packages=$2
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
library=$(echo "$root"/usr/local/lib/python3.*/dist-packages)
cp -a "$packages/packages/." "$library/"
ln -s ../../bin/python3 "$root/usr/local/bin/python"
