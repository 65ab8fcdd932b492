#!/bin/sh
# Puts Dagster's settings where Dagster reads them, then becomes the command.
# Several containers share the folder and start together: each file appears whole, by a rename.
set -eu
umask 027

settings=/opt/fm/docker
mkdir -p "$DAGSTER_HOME"
for name in dagster workspace; do
    part="$DAGSTER_HOME/.$name.yaml.$(hostname).$$"
    cp "$settings/$name.production.yaml" "$part"
    mv -f "$part" "$DAGSTER_HOME/$name.yaml"
done

exec "$@"
