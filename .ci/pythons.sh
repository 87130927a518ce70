#!/bin/sh
# Prints the Pythons of this machine that the service supports: version and
# program, one line for each minor version. Looks on the PATH first, then at
# what pyenv has installed.
set -u

versions=${PYENV_ROOT:-$HOME/.pyenv}/versions

minor() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null
}

for wanted in 3.11 3.12 3.13 3.14; do
    # A pyenv shim is on the PATH, but runs only if its version is selected.
    for program in "python$wanted" "$versions/$wanted".*/bin/python3; do
        if [ "$(minor "$program")" = "$wanted" ]; then
            echo "$wanted $(command -v "$program")"
            break
        fi
    done
done
