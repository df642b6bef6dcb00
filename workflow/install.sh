#!/usr/bin/env bash
# Makes .venv from requirements.lock and checks every hash; does nothing if .venv is up to date.
# usage: workflow/install.sh [python3]
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-python3}
lock=requirements.lock
stamp=.venv/install.json

fail() { printf 'install: %s\n' "$1" >&2; exit 2; }

command -v "$python" >/dev/null || fail "Python 3.11, 3.12 or 3.13 is needed, but there is no '$python'. Name one: make study PYTHON=python3.12"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $found in
    3.11 | 3.12 | 3.13) ;;
    *) fail "Python 3.11, 3.12 or 3.13 is needed, but '$python' is $found. Name another: make study PYTHON=python3.12" ;;
esac

wanted=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' $lock)-$found
if [ -f $stamp ] && grep -q "\"$wanted\"" $stamp; then
    exit 0
fi

started=$SECONDS
echo "install: making .venv with Python $found from $lock (about 3 GB to download the first time)"
rm -rf .venv
"$python" -m venv .venv || fail "'$python -m venv' failed. On Debian and Ubuntu: apt install python3-venv"

# uv installs several times faster than pip; if it is unavailable or fails, pip takes over. Bytecode is compiled here:
# where Python may not write it (containers), every process of a study would otherwise compile torch again.
quiet=--quiet
if [ -t 2 ]; then quiet=; fi
uv_lock=.venv/uv.txt
awk '/^[^ #]/ { keep = /^uv==/ } keep' $lock > $uv_lock
if .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $uv_lock \
    && .venv/bin/uv pip install $quiet --compile-bytecode --python .venv/bin/python --system-certs --require-hashes -r $lock; then
    :
else
    echo "install: uv failed; pip takes over (a few minutes)"
    .venv/bin/pip install --disable-pip-version-check --require-hashes -r $lock
fi
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

seconds=$((SECONDS - started))
printf '{"requirements": "%s", "seconds": %d}\n' "$wanted" "$seconds" > $stamp
echo "install: done in $seconds s"
