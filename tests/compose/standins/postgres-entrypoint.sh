#!/usr/bin/env bash
# What the official image's entrypoint does with an empty data directory, as far as it is used here.
set -euo pipefail

if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    export POSTGRES_USER="${POSTGRES_USER:-postgres}"
    initdb --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" > /dev/null
    printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -w start -o "${*:2} -c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" > /dev/null
    export PGHOST=/var/run/postgresql
    for file in /docker-entrypoint-initdb.d/*.sh; do
        if [ -x "$file" ]; then "$file"; else . "$file"; fi
    done
    pg_ctl -D "$PGDATA" -m fast -w stop > /dev/null
fi
exec "$@"
