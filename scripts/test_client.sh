#!/usr/bin/env bash
# `make test-client`: the TypeScript client installed, compiled with `tsc --strict` and tested: units, the code of docs/clients.md, and the
# real Firebase SDK against the functions and the embedded Firestore. Wants venv/ (make setup).
# Usage: scripts/test_client.sh   Exit codes: npm test's; 1 when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
client=clients/typescript

fail() { printf 'test-client: %s\n' "$*" >&2; exit 1; }

command -v node >/dev/null && command -v npm >/dev/null ||
    fail "Node 20 or later with npm is needed, and was not found. Install it from https://nodejs.org or your package manager."
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    fail "Node 20 or later is needed; this is $(node --version). Install a later one from https://nodejs.org."

installed=$client/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ $client/package-lock.json -nt "$installed" ]; then
    echo "test-client: installing the packages of $client (once)"
    npm --prefix $client ci --ignore-scripts --no-audit --no-fund --loglevel=error ||
        fail "npm could not install them (see above); is a package registry reachable?"
    touch "$installed"
fi
venv/bin/python -m scripts.serve --quiet --logs build/test-client -- npm --prefix $client --silent test
