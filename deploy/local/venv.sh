#!/bin/sh
# Installs what requirements/KIND.lock names into .venv. It is quick if all is
# there. It repairs what an interrupted run left, and .venv after a change of
# the lock, a move of the clone or the removal of its Python.
#
# usage: [PYTHON=python3.x] venv.sh standalone|dev|bench [stack]
set -eu

cd "$(dirname "$0")/../.."
here=$(pwd -P)
kind=$1
base=$(cat requirements/base.lock requirements/standalone.lock | cksum)
case $kind in
standalone) key=$base ;;
*) key="$base $(cksum < "requirements/$kind.lock")" ;;
esac

identity() {
    "$1" -c 'import sys; print(sys.version_info[:3], sys.base_prefix)' \
        2> /dev/null
}

# True if .venv is whole, and is of this clone and of the Python asked for.
usable() {
    [ ! -e .venv/.unfinished ] || return 1
    grep -qF "$here/.venv/bin/" .venv/bin/pip 2> /dev/null || return 1
    mine=$(identity .venv/bin/python) || return 1
    [ -z "${PYTHON:-}" ] || [ "$mine" = "$(identity "$PYTHON")" ]
}

installed() {
    [ "$(cat ".venv/.$kind" 2> /dev/null)" = "$key" ]
}

if ! usable; then
    python=$(sh deploy/local/check.sh "${2:-}")
    echo "timer-service: making a Python environment in .venv" >&2
    rm -rf .venv
    mkdir .venv
    : > .venv/.unfinished
    "$python" -m venv .venv
elif installed; then
    exit 0
fi

echo "timer-service: installing requirements/$kind.lock into .venv" >&2
: > .venv/.unfinished
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --no-input --require-hashes -r "requirements/$kind.lock"
echo "$base" > .venv/.standalone
echo "$key" > ".venv/.$kind"
rm .venv/.unfinished
