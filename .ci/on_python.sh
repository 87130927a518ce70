#!/usr/bin/env bash
# Runs the unit tests and the smoke test of `make run` on another Python, in a
# copy of this directory, so that the environment in .venv stays as it is.
#
# usage: on_python.sh PROGRAM
set -euo pipefail
cd "$(dirname "$0")/.."

export PYTHON=$1
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --create --exclude=./.git --exclude=./.venv --exclude=./.data . \
    | tar --extract --directory="$copy"
cd "$copy"

sh deploy/local/venv.sh dev
.venv/bin/python -m pytest tests/unit -q
.venv/bin/python -m tests.smoke.standalone
