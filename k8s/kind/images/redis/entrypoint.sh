#!/bin/sh
# As in the official image, the arguments are options of redis-server, or another command.
set -eu

case "${1:-}" in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac

# In protected mode, Redis without a password only accepts local clients. A pod has none.
case "$*" in
*--protected-mode*) ;;
redis-server*) set -- "$@" --protected-mode no ;;
esac
exec "$@"
