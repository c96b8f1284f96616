#!/bin/sh
# Writes an override that names third-party images by their digests, so that every start uses the same bytes: a tag can change.
#   ./pin-images.sh [FILE]      FILE: docker-compose.pinned.yml in this folder if omitted; run it again to use newer images
# It asks the registries for the tags of all services that Compose would run (COMPOSE_FILE, .env), except those that are built here. Add FILE to
# COMPOSE_FILE to use it. The base of our own images is pinned as well: MIRAGE_BASE_IMAGE, which the last line names, must be added to .env.
set -eu
if [ $# -gt 1 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
case ${1:-} in /*) file=$1 ;; '') file= ;; *) file=$PWD/$1 ;; esac
cd "$(dirname "$0")"
file=${file:-$PWD/docker-compose.pinned.yml}

digest() { # digest IMAGE: NAME:TAG@sha256:…, of all its platforms, as the registry has it now
  # Pinned by an earlier run: the tag says what to look up again.
  tagged=${1%@*}
  found=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tagged" 2>/dev/null) || {
    # Without buildx: what this host pulls.
    docker pull --quiet "$tagged" >/dev/null || { echo "$tagged cannot be resolved: can its registry be reached?" >&2; return 1; }
    found=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tagged" | sed -n 's/.*@//p' | head -n 1)
  }
  case $found in sha256:*) ;; *) echo "$tagged has no digest: it is not from a registry" >&2; return 1 ;; esac
  echo "$tagged@$found"
}

partial=$file.part
trap 'rm -f "$partial" "$partial.list"' EXIT
{
  echo "# Written by pin-images.sh on $(date -u +%Y-%m-%d): the images of others by their digests. Add this file to COMPOSE_FILE."
  echo "services:"
} >"$partial"
docker compose --profile '*' config --format json | awk '
  # Compose prints it with an indentation of two.
  /^  "services": \{/ { within = 1; next }
  /^  \}/ { within = 0 }
  within && /^    "[^"]*": \{/ { split($0, part, "\""); name = part[2]; names[++count] = name }
  within && /^      "build": / { built[name] = 1 }
  within && /^      "image": / { split($0, part, "\""); image[name] = part[4] }
  END { for (at = 1; at <= count; at++) if (names[at] in image) print names[at], image[names[at]], (names[at] in built) }
' >"$partial.list"
# What is built here comes from no registry, and so does what runs an image that another service builds.
built=$(awk '$3 == 1 { print $2 }' "$partial.list")
while read -r service image built_here; do
  if [ "$built_here" = 1 ] || echo "$built" | grep -qxF "$image"; then continue; fi
  pinned=$(digest "$image")
  printf '  %s:\n    image: %s\n' "$service" "$pinned" >>"$partial"
  echo "$service: $pinned"
done <"$partial.list"
base=$(docker compose --profile '*' config --format json | sed -n 's/^ *"BASE": "\([^"]*\)",\{0,1\}$/\1/p' | head -n 1)
mv "$partial" "$file"
if [ -n "$base" ]; then
  pinned=$(digest "$base")
  echo "MIRAGE_BASE_IMAGE=$pinned"
fi
