#!/bin/sh
# Starts Redis with the password in the first argument's file and the options that follow, without the commands that change a server or its
# machine. Its file of jobs is checked first: a damaged file is renamed, and the queue starts without it.
set -eu
umask 077
key=$1
shift
data=/data
jobs=$data/appendonlydir
list=$jobs/appendonly.aof.manifest

put_aside() {
  kept=$jobs.damaged-$(date -u +%Y%m%dT%H%M%SZ)
  echo "damaged file put aside: $jobs is kept as $kept" >&2
  cp -a "$jobs" "$kept"
}

# The checker reads a file that is not a list of files as a file of commands.
whole() { grep -q '^file ' "$list" 2>/dev/null && redis-check-aof "$list" >/dev/null 2>&1; }

if [ -n "$(ls -A "$jobs" 2>/dev/null)" ] && ! whole; then
  # The end of the last file may be cut off, as after a power failure; Redis itself continues from there.
  put_aside
  yes | redis-check-aof --fix "$list" >/dev/null 2>&1 || true
  whole || rm -rf "$jobs"
fi

{
  printf 'requirepass %s\n' "$(cat "$key")"
  for name in CONFIG MODULE DEBUG ACL SHUTDOWN CLUSTER MONITOR SWAPDB PFDEBUG PFSELFTEST REPLICAOF SLAVEOF SYNC PSYNC REPLCONF MIGRATE \
    RESTORE RESTORE-ASKING SAVE BGSAVE; do
    printf 'rename-command %s ""\n' "$name"
  done
} >/tmp/redis.conf
exec redis-server /tmp/redis.conf "$@"
