#!/bin/sh
# Elasticsearch and a user for it: called with the root and the result of elasticsearch-jars.
set -eu
root=$1 jars=$2 home=/usr/share/elasticsearch
echo "elasticsearch:x:1000:1000::$home:/usr/sbin/nologin" >> "$root/etc/passwd"
echo "elasticsearch:x:1000:" >> "$root/etc/group"
mkdir -p "$root$home"
cp -a "$jars/es/." "$root$home/"
chown -R 1000:1000 "$root$home"
