#!/bin/sh
# As in the official image: arguments are those of redis-server, or a command of its own.
set -eu

case "${1:-}" in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac

# Debian's build refuses other hosts unless it has a password; in a pod nobody else is local.
case "$*" in
*--protected-mode*) ;;
redis-server*) set -- "$@" --protected-mode no ;;
esac
exec "$@"
