#!/usr/bin/env bash
# Makes venv/ with the pinned packages and the command `balance`, or brings it up to date; says plainly what is missing when it cannot.
# Interrupted anywhere, the next run makes venv/ anew.
# Usage: scripts/setup.sh   (PYTHON=/path/to/python3.13 chooses the interpreter; any from 3.11 to 3.14)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

is_suitable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if "$candidate" -c "$is_suitable" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12, 3.13 or 3.14 is needed and was not found. Install one, or name it: make PYTHON=/path/to/python3.13"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The stamp holds what was installed, so that a changed requirements file installs again and nothing else does.
stamp=venv/.installed
unfinished=venv/.unfinished
wanted=$(cat requirements.txt requirements-dev.txt scripts/setup.sh | cksum)
if [ -n "${PYTHON:-}" ] && [ -x venv/bin/python ] && [ ! -e "$unfinished" ]; then
    python=$(find_python)
    [ "$(version_of "$python")" = "$(version_of venv/bin/python)" ] ||
        fail "venv/ was made with Python $(version_of venv/bin/python), not with $PYTHON; remove it (rm -r venv) and run this again"
fi
[ -x venv/bin/python ] && [ ! -e "$unfinished" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

python=$(find_python)
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "this Python has no venv module ($python). On Debian or Ubuntu: apt-get install python$(version_of "$python")-venv"
# What an interrupted run leaves looks installed to pip, and is not. So does a venv/ whose making was interrupted.
if [ -e "$unfinished" ] || { [ -d venv ] && ! venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    echo "setup: venv/ is not complete: it is made anew"
    rm -rf venv
fi
if [ -d venv ]; then
    venv/bin/python -c "$is_suitable" ||
        fail "venv/ was made with Python $(version_of venv/bin/python); remove it (rm -r venv) and run this again"
fi
mkdir -p venv
touch "$unfinished"
if [ ! -x venv/bin/python ]; then
    echo "setup: making venv/ with $("$python" --version) (once; about a minute)"
    "$python" -m venv venv || fail "could not make venv/ (see above)"
fi
venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt ||
    fail "pip could not install requirements-dev.txt (see above); is a package index reachable?"
# The command `balance`. A launcher rather than an installed package: what is deployed is source, and pyproject.toml must not
# describe a package that the platform's builder could take for it (docs/adr/0021).
cat >venv/bin/balance <<END
#!/bin/sh
# Made by scripts/setup.sh.
exec "$PWD/venv/bin/python" "$PWD/scripts" "\$@"
END
chmod +x venv/bin/balance
echo "$wanted" >"$stamp"
rm "$unfinished"
echo "setup: done"
