#!/bin/sh
# The base of the second service's image: called with the root and the result of node-packages.
set -eu
root=$1 packages=$2
cp "$packages"/runtime/node_modules/node-linux-*/bin/node "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules" "$root/app"
cp -a "$packages/runtime/node_modules/npm" "$root/usr/local/lib/node_modules/"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
cp -a "$packages/catalog/node_modules" "$root/app/"
chown -R 0:0 "$root/usr/local/lib/node_modules" "$root/app"
