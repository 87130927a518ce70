#!/bin/sh
# Start nginx, and reload it when the addresses of `web` change: it looks them
# up only when it reads its configuration. (From nginx 1.27.3 on an upstream's
# `resolve` does the same.)
set -eu

addresses() {
    getent ahosts web | cut -d ' ' -f 1 | sort -u
}

follow() {
    while sleep 2; do
        found=$(addresses)
        if [ -n "$found" ] && [ "$found" != "$known" ] &&
            nginx -e stderr -t -q && nginx -e stderr -s reload
        then
            known=$found
        fi
    done
}

known=$(addresses)
follow &
exec nginx -e stderr -g 'daemon off;'
