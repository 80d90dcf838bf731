#!/bin/sh
# Starts Redis with its password from a file; on the command line all users could read it.
set -eu
umask 077
{
    cat /etc/headrace-redis.conf
    printf 'requirepass "%s"\n' "$(cat /run/secrets/password)"
} > /tmp/redis.conf
exec redis-server /tmp/redis.conf
