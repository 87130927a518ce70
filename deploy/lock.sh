#!/bin/sh
# Resolves every dependency once, for Python 3.11 to 3.14 on Linux and macOS,
# and writes the resolution in four parts, so that an image or a first run
# installs no more than it needs. For one system a package is in one part only,
# except in `dev` and `bench`, which are not installed together.
#
# usage: deploy/lock.sh [extra uv options, such as --upgrade]
set -eu

cd "$(dirname "$0")/.."
uv=${UV:-uv}
all=requirements/all.tmp
trap 'rm -f "$all"' EXIT

# uv keeps the versions that its output file already names.
sed '/^-r /d' requirements/base.lock requirements/standalone.lock \
    requirements/dev.lock requirements/bench.lock > "$all" 2>/dev/null || :

compile() {
    "$uv" pip compile pyproject.toml --quiet --universal \
        --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url "$@"
}

names() {
    sed -n 's/^\([a-z0-9][a-z0-9._-]*\)==.*/--no-emit-package \1/p'
}

compile --extra standalone --group dev --group bench "$@" -o "$all" \
    > /dev/null

part() {   # part NAME PARENT [uv options]
    name=$1; parent=$2; shift 2
    out=requirements/$name.lock
    {
        echo "# Made by deploy/lock.sh (make lock); do not edit."
        if [ -n "$parent" ]; then echo "-r $parent.lock"; fi
        compile -c "$all" "$@"
    } > "$out.tmp"
    mv "$out.tmp" "$out"
}

part base ""
# shellcheck disable=SC2046  # one word per option is what is wanted
part standalone base --extra standalone $(names < requirements/base.lock)
# The other parts have some packages for Windows only. These may need them
# anywhere.
for group in dev bench; do
    # shellcheck disable=SC2046
    part "$group" standalone --extra standalone --group "$group" \
        $(sed "/sys_platform == 'win32'/d" requirements/base.lock \
            requirements/standalone.lock | names)
done
