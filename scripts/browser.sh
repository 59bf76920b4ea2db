#!/usr/bin/env bash
# What the tests of the console in a real browser need: Chromium, Playwright's Python library, the axe engine. Installs what can
# be installed and says plainly what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'browser: %s\n' "$*" >&2; exit 1; }

if ! command -v chromium >/dev/null && [ -z "${CHROMIUM:-}" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "browser: installing Debian's chromium"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core fonts-noto-color-emoji; } >/dev/null ||
            fail "apt-get could not install chromium (see above)"
    else
        fail "there is no Chromium. On Debian or Ubuntu: sudo apt-get install chromium fonts-dejavu-core fonts-noto-color-emoji." \
            "Elsewhere, name one that is installed: CHROMIUM=/path/to/chromium"
    fi
fi

stamp=venv/.installed-browser
wanted=$(cksum <requirements-browser.txt)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-browser.txt ||
        fail "pip could not install requirements-browser.txt (see above); is a package index reachable?"
    echo "$wanted" >"$stamp"
fi

if [ ! -f tests/console/node_modules/axe-core/axe.min.js ]; then
    command -v npm >/dev/null || fail "npm is needed for the axe accessibility engine: install Node.js 20 or later"
    npm ci --prefix tests/console --ignore-scripts --silent || fail "npm could not install axe-core (see above)"
fi
