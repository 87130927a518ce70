#!/usr/bin/env bash
# Brings the compose file up, tries it out, runs the whole suite in it, and
# takes it down. A Docker engine and stand-ins for the images come from the
# scripts in DIRECTORY; without them, as another user than root, or on another
# system than Debian, it is skipped.
#
# usage: [PORT=8000] [MANAGEMENT_PORT=15672] compose.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -d "$1" ] || [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ]; then
    echo "SKIPPED: the compose file was not tried. That needs $1, root and" \
        "Debian."
    exit
fi
check=$(readlink -f "$1")
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-timer-ci}
export PORT=${PORT:-8000} MANAGEMENT_PORT=${MANAGEMENT_PORT:-15672}
export ENGINE=docker

engines() { pgrep -x dockerd || :; }

before=$(engines)
clean_up() {
    status=$?
    [ $status = 0 ] || docker compose logs --tail=50 || :
    docker compose --profile test down --volumes || :
    # One that was running already may serve somebody else.
    [ "$(engines)" = "$before" ] || "$check/engine-stop.sh"
    exit $status
}
trap clean_up EXIT

# Sets the variables that lead `docker` to the engine, and starts that.
# shellcheck source=/dev/null
. "$check/engine.sh"
for image in python:3.13-slim postgres:17 rabbitmq:4-management nginx:stable
do
    if ! docker image inspect "$image" > /dev/null 2>&1; then
        "$check/standins.sh"
        break
    fi
done

docker compose --profile test build --quiet
.venv/bin/python -m tests.smoke.compose
# They would take the suite's processor time.
docker compose stop web worker dispatcher proxy receiver
docker compose --profile test run --rm -T tests
