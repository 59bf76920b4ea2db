#!/usr/bin/env bash
# Makes venv/ with the pinned packages and the command `balance`, or brings it up to date; says plainly what is missing when it cannot.
# Usage: scripts/setup.sh   (PYTHON=/path/to/python3.11 chooses the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 is needed (the Cloud Functions runtime of this project) and was not found." \
        "Install it, or name it: make PYTHON=/path/to/python3.11"
}

# The stamp holds what was installed, so that a changed requirements file installs again and nothing else does.
stamp=venv/.installed
wanted=$(cat requirements.txt requirements-dev.txt scripts/setup.sh | cksum)
[ -x venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

python=$(find_python)
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "this Python has no venv module ($python). On Debian or Ubuntu: apt-get install python3.11-venv"
echo "setup: making venv/ with $("$python" --version) (once; about a minute)"
[ -x venv/bin/python ] || "$python" -m venv venv || fail "could not make venv/ (see above)"
venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail "venv/ was made with another Python; remove it (rm -r venv) and run this again"
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
echo "setup: done"
