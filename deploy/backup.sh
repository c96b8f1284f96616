#!/bin/sh
# All that MIRAGE has stored, as one file, and back: vectors, records and images, the queue and the images that jobs made.
#   ./backup.sh backup FILE.tar.gz      stops the containers, copies, starts them again
#   ./backup.sh restore FILE.tar.gz     replaces what is stored by what the file holds
# Which files and project is told as Compose is told: COMPOSE_FILE, COMPOSE_PROJECT_NAME, .env (docs/operations.md).
set -eu
if [ $# -ne 2 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
verb=$1
case $2 in /*) file=$2 ;; *) file=$PWD/$2 ;; esac
cd "$(dirname "$0")"

project=$(docker compose config --format json | sed -n 's/^ *"name": "\([^"]*\)",\{0,1\}$/\1/p' | head -n 1)
image=$(docker compose config --images | grep '/tools:' | head -n 1)
mounts=
for volume in atlas vectors queue jobs demo; do
  if docker volume inspect "${project}_$volume" >/dev/null 2>&1; then mounts="$mounts -v ${project}_$volume:/volumes/$volume"; fi
done
if [ -z "$mounts" ]; then echo "there is nothing of the project $project here" >&2; exit 1; fi

within() { # within COMMAND: in a container with the volumes under /volumes, which reaches nothing else
  # shellcheck disable=SC2086 # the mounts are several words
  docker run --rm -i --network none --user 0:0 --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
    $mounts --entrypoint sh "$image" -c "$1"
}

case $verb in
  backup)
    docker compose stop
    trap 'docker compose start' EXIT
    within 'tar -C /volumes --numeric-owner -cz .' >"$file.part"
    mv "$file.part" "$file"
    ;;
  restore)
    gzip -t "$file"
    docker compose stop
    trap 'docker compose start' EXIT
    within 'find /volumes -mindepth 2 -delete && tar -C /volumes --numeric-owner -xz' <"$file"
    ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
