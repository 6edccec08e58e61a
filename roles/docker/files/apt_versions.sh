#!/bin/sh
# Prints the versions of a package that a signed repository has, newest first. Whatever apt needs for that is gone afterwards, so nothing of
# the host changes. The key comes on standard input.
# apt_versions.sh PACKAGE URI SUITE COMPONENT ARCHITECTURE
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 0755 "$folder"
cat >"$folder/key.asc"
chmod 0644 "$folder/key.asc"
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
cat >"$folder/docker.sources" <<SOURCES
Types: deb
URIs: $2
Suites: $3
Components: $4
Architectures: $5
Signed-By: $folder/key.asc
SOURCES
set -- "$1" -o "Dir::Etc::SourceList=$folder/docker.sources" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$folder/lists" \
    -o "Dir::Cache=$folder/cache" -o APT::Update::Error-Mode=any -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
package=$1
shift
apt-get --quiet update "$@" >&2
apt-cache madison "$@" "$package" | cut -d '|' -f 2 | tr -d ' '
