# Every target sets up what it needs. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo rehearsal test test-long test-integration test-firebase test-client test-console screenshots simulate explore mutate chaos soak bench bench-check lint audit format lock

PY := venv/bin/python

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup:  ## venv/ with the pinned packages and the command venv/bin/balance
	@PYTHON="$(PYTHON)" scripts/setup.sh

demo: setup  ## a group's balances kept true by the real functions, on the embedded Firestore
	@venv/bin/balance demo $(ARGS)

rehearsal: setup  ## the roll-out rehearsed: traffic, backfill, corruption, switches; every answer checked
	@venv/bin/balance rehearsal --logs build/rehearsal $(ARGS)

test: setup  ## all tests but the long ones: unit, property, integration, simulation, end to end
	@$(PY) -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

test-long: setup  ## the long ones: the roll-out rehearsed, attacks on real processes, all commands of the documents, proofs of the explorer
	@$(PY) -m pytest -n 2 --dist loadgroup -m long $(ARGS)

test-integration: setup  ## integration tests; FIRESTORE_EMULATOR_HOST=host:port chooses another Firestore than the embedded one
	@$(if $(FIRESTORE_EMULATOR_HOST),FIRESTORE_EMULATOR_HOST=$(FIRESTORE_EMULATOR_HOST)) $(PY) -m pytest tests/integration $(ARGS)

test-firebase: setup  ## the end-to-end tests through the real Firebase CLI; OFFICIAL=1: on the official Firestore emulator, or not at all
	@OFFICIAL=$(OFFICIAL) $(PY) -m tests.firebase.run $(ARGS)

test-console: setup  ## the console in a real browser; installs what that needs, or says what to install
	@scripts/browser.sh
	@CONSOLE_TESTS=required $(PY) -m pytest tests/console $(ARGS)

screenshots: setup  ## the pictures of the console in the documents, light and dark
	@scripts/browser.sh
	@$(PY) -m tests.console.screenshots

test-client: setup  ## the TypeScript client: compiled, tested with the real Firebase SDK (needs Node 20)
	@scripts/test_client.sh

simulate: setup  ## SEEDS (1000) simulated schedules against the protocol, from seed START (0), on all cores
	@venv/bin/balance simulate --seeds $(or $(SEEDS),1000) --start $(or $(START),0) $(ARGS)

explore: setup  ## every interleaving of small worlds against the protocol, on all cores; WORLDS='"delete*"' chooses
	@venv/bin/balance explore $(WORLDS) $(ARGS)

mutate: setup  ## line-by-line mutation of core, documents and protocol: hours; MUTANTS='balance.core.ledger*' chooses
	@venv/bin/mutmut run $(MUTANTS)
	@venv/bin/mutmut results

chaos: setup  ## the same attack on real processes: SEED (1), MINUTES (1)
	@venv/bin/balance chaos --seed $(or $(SEED),1) --minutes $(or $(MINUTES),1) $(ARGS)

soak: setup  ## a bad day of the platform: MINUTES (5); prints the longest time to recover from each kind of fault
	@venv/bin/balance soak --minutes $(or $(MINUTES),5) $(ARGS)

bench: setup  ## every figure of docs/performance.md, measured side by side: about twelve minutes
	@$(PY) -m bench $(ARGS)

bench-check: setup  ## the same in short; fails when a ratio is more than a third worse than its target
	@$(PY) -m bench --quick --check $(ARGS)

lint: setup  ## ruff and mypy --strict
	@venv/bin/ruff check .
	@venv/bin/ruff format --check .
	@venv/bin/mypy

audit: setup  ## known vulnerabilities of the pinned dependencies; fails when it cannot ask
	@venv/bin/balance audit $(ARGS)

format: setup  ## rewrite the sources as ruff wants them
	@venv/bin/ruff check --fix .
	@venv/bin/ruff format .

lock:  ## compile requirements*.txt from requirements*.in, for Python 3.11 and all later ones (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements-dev.in -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" requirements-browser.in -o requirements-browser.txt
