#!/bin/bash
# Starts Qdrant with the API key in the first argument's file.
set -eu
QDRANT__SERVICE__API_KEY=$(cat "$1")
export QDRANT__SERVICE__API_KEY
exec ./entrypoint.sh
