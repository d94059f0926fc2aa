#!/bin/sh
# Initialize the data directory once, then run the server. As in the official image, this script
# uses POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB (or the file that NAME_FILE names), PGDATA,
# the SQL files in /docker-entrypoint-initdb.d, and arguments for the server.
set -eu

fail() {
    echo "postgres: $1" >&2
    exit 1
}

# setting NAME DEFAULT: print the variable NAME, or the content of the file that NAME_FILE names.
setting() {
    value=$(printenv "$1" || true)
    file=$(printenv "$1_FILE" || true)
    if [ -n "$value" ] && [ -n "$file" ]; then
        fail "both $1 and $1_FILE are set: set one of them"
    fi
    if [ -n "$file" ]; then
        cat "$file"
    else
        echo "${value:-$2}"
    fi
}

# Everything is created next to PGDATA and renamed last, so that an interrupted start leaves nothing
# behind that a later start could mistake for a database.
initialise() {
    new=$PGDATA.init
    user=$(setting POSTGRES_USER postgres)
    database=$(setting POSTGRES_DB "$user")
    password=$(setting POSTGRES_PASSWORD "")
    [ -n "$password" ] || fail "POSTGRES_PASSWORD is empty: set it, or POSTGRES_PASSWORD_FILE"
    if [ -e "$PGDATA" ]; then
        rmdir "$PGDATA" 2>/dev/null || fail \
            "PGDATA ($PGDATA) holds no database and cannot be replaced, because it is a mount or \
not empty: set PGDATA to a folder below it"
    fi
    rm -rf "$new"
    mkdir -p "$new" || fail "$(dirname "$PGDATA") cannot be written by uid $(id -u): set fsGroup"

    echo "$password" | initdb --pgdata "$new" --username "$user" --pwfile /dev/stdin \
        --encoding UTF8 --locale C.UTF-8 --auth-local trust --auth-host scram-sha-256
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$new/postgresql.conf"

    # No other client can connect yet: the only socket is in a private folder.
    sockets=$(mktemp -d)
    pg_ctl start --wait --silent --pgdata "$new" \
        --options "-c listen_addresses='' -c unix_socket_directories='$sockets'"
    export PGHOST="$sockets" PGUSER="$user"
    [ "$database" = postgres ] || createdb "$database"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$script" ] || continue
        echo "postgres: running $script"
        psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname "$database" --file "$script"
    done
    pg_ctl stop --wait --silent --mode fast --pgdata "$new"
    unset PGHOST PGUSER

    sync
    mv "$new" "$PGDATA"
    sync
}

case "${1:-}" in
'' | -*) set -- postgres "$@" ;;
esac

if [ "$1" = postgres ]; then
    [ "$(id -u)" != 0 ] || fail "the server refuses to run as root: run it as uid 999"
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        # The first process of a container ignores signals that it does not handle.
        trap 'exit 130' INT TERM
        initialise
        trap - INT TERM
    fi
fi
exec "$@"
