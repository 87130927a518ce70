#!/bin/sh
# Finds a Python that can run the service and prints its name. Says what is
# missing, and the command that installs it, when there is none.
#
# usage: [PYTHON=python3.x] check.sh [stack]
set -u

fail() {
    printf 'timer-service: %s\n' "$1" >&2
    printf '  %s\n' "$2" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then echo "$1"; else echo "sudo $1"; fi
}

install_python() {
    if [ "$(uname -s)" = Darwin ]; then
        echo "brew install python@3.13"
    elif command -v apt-get > /dev/null; then
        as_root "apt-get install python3 python3-venv"
    elif command -v dnf > /dev/null; then
        as_root "dnf install python3.13"
    else
        echo "see https://www.python.org/downloads/"
    fi
}

install_venv() {   # install_venv 3.x
    if command -v apt-get > /dev/null; then
        as_root "apt-get install python$1-venv"
    else
        install_python
    fi
}

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null
}

right_version() {
    case "$1" in 3.11 | 3.12 | 3.13 | 3.14) return 0 ;; esac
    return 1
}

# Debian has venv and ensurepip in a package of their own.
makes_venv() {
    "$1" -c 'import ensurepip, venv' 2> /dev/null
}

candidates=${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}
found=
seen=
without_venv=
for python in $candidates; do
    number=$(version "$python") || continue
    seen="$python is $number"
    right_version "$number" || continue
    without_venv=$number
    makes_venv "$python" || continue
    found=$python
    break
done

if [ -z "$found" ] && [ -n "$without_venv" ]; then
    fail "Python $without_venv is here, but not its venv module. To install:" \
        "$(install_venv "$without_venv")"
elif [ -z "$found" ] && [ -n "${PYTHON:-}" ]; then
    fail "PYTHON=$PYTHON is no Python 3.11 to 3.14 (${seen:-it does not run})." \
        "$(install_python)"
elif [ -z "$found" ]; then
    fail "Python 3.11 to 3.14 is needed (${seen:-none found}). To install it:" \
        "$(install_python)"
fi

if [ "${1:-}" = stack ]; then
    "$found" -m deploy.local.needs stack >&2 || exit 1
fi
echo "$found"
