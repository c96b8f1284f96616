#!/bin/sh
# Makes the passwords of Redis and Qdrant at the first start, each in a volume of its own; existing passwords are kept.
# The files are for the services' user and its group (10001), to which the containers of Redis and Qdrant belong as well.
set -eu
umask 027
for folder in /keys/queue /keys/vectors; do
  if [ -s "$folder/key" ]; then continue; fi
  python -c 'import secrets; print(secrets.token_urlsafe(32), end="")' >"$folder/key.new"
  mv "$folder/key.new" "$folder/key"
done
