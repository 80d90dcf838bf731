#!/usr/bin/env bash
# Runs once, when the primary's data directory is new: the database, its owner, and a role and a
# slot for the replica. Passwords come from files, so no process list shows them.
# The image's entrypoint sources what it may not execute; the subshell confines these options.
(
set -euo pipefail

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set headrace `cat /run/secrets/headrace_password`
\set replicator `cat /run/secrets/replicator_password`
CREATE ROLE headrace LOGIN PASSWORD :'headrace';
-- The nodes' health probes of each server need this role.
GRANT pg_monitor TO headrace;
CREATE DATABASE headrace OWNER headrace;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replicator';
SELECT pg_create_physical_replication_slot('replica');
SQL
echo "host replication replicator samenet scram-sha-256" >> "$PGDATA/pg_hba.conf"
)
