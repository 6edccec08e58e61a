#!/bin/sh
# Elasticsearch and a user for it: called with the root and the result of elasticsearch-jars.
set -eu
root=$1 jars=$2
chroot "$root" useradd --uid 1000 --user-group --create-home --home-dir /usr/share/elasticsearch elasticsearch
cp -a "$jars/es/." "$root/usr/share/elasticsearch/"
chroot "$root" chown -R elasticsearch:elasticsearch /usr/share/elasticsearch
