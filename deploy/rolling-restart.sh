#!/bin/sh
# Replaces the containers of a service one after the other while the others answer. The new ones have the image that was built last and the
# current settings.
#   ./rolling-restart.sh encoder|llm|generator|worker
# It starts a new container; when that is healthy, an old one finishes its running calls and stops. Files and project are chosen as for Compose:
# COMPOSE_FILE, COMPOSE_PROJECT_NAME, .env (docs/deploy.md).
set -eu
if [ $# -ne 1 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
service=$1
case $service in
  encoder | llm | generator | worker) ;;
  *) echo "$service is one container at a time: docker compose restart $service" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"

old=$(docker compose ps --quiet "$service")
[ -n "$old" ] || { echo "no container of $service runs" >&2; exit 1; }
count=$(echo "$old" | wc -l)

healthy() { # healthy CONTAINER
  [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]
}

for container in $old; do
  before=$(docker compose ps --quiet "$service" | sort)
  docker compose up --detach --no-build --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
  new=$(docker compose ps --quiet "$service" | sort | while read -r id; do echo "$before" | grep -qx "$id" || echo "$id"; done)
  [ -n "$new" ] || { echo "no new container of $service was started" >&2; exit 1; }
  waited=0
  until healthy "$new"; do
    # The old ones keep running; nothing is lost.
    if [ "$waited" -ge "${WAIT_S:-300}" ]; then
      echo "$service: the new container is not healthy after $waited s; its log:" >&2
      docker logs --tail 5 "$new" >&2
      docker rm --force "$new" >/dev/null
      exit 1
    fi
    sleep 1
    waited=$((waited + 1))
  done
  # Callers learn of the new one when they look its name up again, which they do every few seconds once a connection has ended.
  docker stop "$container" >/dev/null
  docker rm "$container" >/dev/null
  echo "$service: $(echo "$container" | cut -c 1-12) replaced by $(echo "$new" | cut -c 1-12)"
done
