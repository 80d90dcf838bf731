#!/usr/bin/env bash
# Starts a hot standby that streams from the primary through its slot; a new one is a copy of it.
set -euo pipefail

passfile=/tmp/pgpass
(umask 077 && printf '*:*:*:replicator:%s\n' "$(cat /run/secrets/replicator_password)" > "$passfile")
primary="host=postgres user=replicator application_name=replica passfile=$passfile"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Renamed when it is complete, so that a copy that was cut short is not taken for data.
    rm -rf "$PGDATA" "$PGDATA.new"
    mkdir -p "$(dirname "$PGDATA")"
    pg_basebackup --pgdata "$PGDATA.new" --dbname "$primary" --slot replica --wal-method stream --checkpoint fast
    touch "$PGDATA.new/standby.signal"
    mv "$PGDATA.new" "$PGDATA"
fi
exec docker-entrypoint.sh "$@" -c "primary_conninfo=$primary" -c primary_slot_name=replica
