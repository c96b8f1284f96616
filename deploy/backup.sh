#!/bin/sh
# Backs up everything that MIRAGE has stored to one file, or restores it: `mirage backup` and `mirage restore` on the containers' volumes.
#   ./backup.sh backup FILE.tar.gz      stops the containers, copies, starts them again
#   ./backup.sh restore FILE.tar.gz     checks the file, stops the containers, replaces what is stored, starts them again
# Files and project are chosen as for Compose: COMPOSE_FILE, COMPOSE_PROJECT_NAME, .env (docs/backup.md).
set -eu
umask 077
if [ $# -ne 2 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
verb=$1
case $2 in /*) file=$2 ;; *) file=$PWD/$2 ;; esac
cd "$(dirname "$0")"

project=$(docker compose config --format json | sed -n 's/^ *"name": "\([^"]*\)",\{0,1\}$/\1/p' | head -n 1)
# Of a service that may be switched off, such as the one that indexes the demonstration.
image=$(docker compose --profile '*' config --images | grep '/tools:' | head -n 1)
[ -n "$image" ] || { echo "no image of the command among the services of $project" >&2; exit 1; }
if ! docker image inspect "$image" >/dev/null 2>&1; then docker compose --profile '*' build demo; fi
volumes="atlas queue jobs demo"
# Without a Qdrant server the retriever stores the vectors: a volume that an earlier server left is not part of the system.
if docker compose config --services | grep -qx qdrant; then volumes="$volumes vectors"; fi

mirage() { # mirage VERB …: in a container without a network, with the existing volumes under /volumes
  mounts=
  for volume in $volumes; do
    if docker volume inspect "${project}_$volume" >/dev/null 2>&1; then mounts="$mounts -v ${project}_$volume:/volumes/$volume"; fi
  done
  # shellcheck disable=SC2086 # the mounts are several words
  docker run --rm -i --pull never --network none --read-only --tmpfs /tmp --user 0:0 --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE \
    --cap-add FOWNER --security-opt no-new-privileges $mounts "$image" "$@"
}

# The containers start again after Ctrl-C too.
trap 'exit 130' INT TERM
case $verb in
  backup)
    docker volume inspect "${project}_atlas" >/dev/null
    if [ -e "$file" ]; then echo "$file exists: give another name" >&2; exit 1; fi
    docker compose stop
    trap 'rm -f "$file.part"; docker compose start' EXIT
    mirage backup - --volumes /volumes >"$file.part"
    mv "$file.part" "$file"
    ;;
  restore)
    mirage restore - --check <"$file"
    # On a new server this makes the containers and their empty volumes.
    docker compose create --no-recreate
    docker compose stop
    trap 'docker compose start' EXIT
    mirage restore - --replace --volumes /volumes <"$file"
    ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
