# Two commands do all the set-up on a fresh machine with Python 3.11+: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
KEEP ?=
TESTS ?= tests
# Each has a server of its own, so that three keep two cores busy.
WORKERS ?= 3
SECONDS ?= 60
# Which tables of the benchmarks (all of them, by default), and where JSON and SVG go.
TABLES ?=
OUT ?= build/bench

.PHONY: help demo psql test test-all test-long lint format types build bench bench-short bench-check bench-page bench-backfill bench-migrate bench-waits soak crash examples house clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# One environment for everything; a changed pyproject.toml makes it anew.
$(BIN)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "trigger_kit needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating the environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(BIN)/.ready ## The main job on real data: 336,776 flights. KEEP=1 keeps the database.
	@$(BIN)/python migrations_examples/flights/demo.py $(if $(KEEP),--keep)

psql: $(BIN)/.ready ## Open psql on the database that `make demo KEEP=1` has kept.
	@$(BIN)/python migrations_examples/flights/demo.py --psql

test: $(BIN)/.ready ## The test suite, on a real PostgreSQL (embedded unless TRIGGER_KIT_DATABASE_URL names one).
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(TESTS)

test-all: $(BIN)/.ready ## All of it: every race at every isolation level, every combination, eight times as many examples per property.
	@$(BIN)/python -m pytest --all --numprocesses $(WORKERS) --dist worksteal $(TESTS)

test-long: $(BIN)/.ready ## The same with 2,000 examples per property.
	@TRIGGER_KIT_EXAMPLES=2000 $(BIN)/python -m pytest tests/property

lint: $(BIN)/.ready ## Style and formatting.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(BIN)/.ready ## Format, and fix what can be fixed.
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

types: $(BIN)/.ready ## mypy, strict.
	@$(BIN)/mypy

build: $(BIN)/.ready ## Build the wheel and import it in an empty environment.
	@rm -rf dist build/wheel && $(BIN)/python -m build --outdir dist > /dev/null
	@$(PYTHON) -m venv build/wheel && build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	@cd build && wheel/bin/python -c 'import trigger_kit; print("wheel imports:", trigger_kit.__version__)'

bench: $(BIN)/.ready ## Ratios to no trigger and to other ways, as tables and plots in OUT=build/bench; TABLES="writes sizes".
	@$(BIN)/python -m benchmarks $(TABLES) --out $(OUT)

bench-short: OUT = build/bench-short
bench-short: $(BIN)/.ready ## The same with few rows and rounds, in less than 3 minutes: do all tables work?
	@$(BIN)/python -m benchmarks $(TABLES) --short --out $(OUT)

bench-check: $(BIN)/.ready ## Measure what has a bar, and fail where a ratio is worse than its bar.
	@$(BIN)/python -m benchmarks $(TABLES) --check --out $(OUT)

bench-page: $(BIN)/.ready ## Put what make bench has left in OUT=build/bench into docs/performance.md.
	@$(BIN)/python -m benchmarks.page $(OUT)

bench-backfill: $(BIN)/.ready ## Four rules come to 1,000,000 rows by a migration, under four writers, killed in the middle.
	@$(BIN)/python -m benchmarks.backfill

bench-waits: $(BIN)/.ready ## What writers wait while somebody migrates the forum's 24 rules, or upgrades.
	@$(BIN)/python -m benchmarks.waits

soak: $(BIN)/.ready ## 8 writers at random for SECONDS=60: no drift, no deadlocks of our making.
	@$(BIN)/python -m benchmarks.soak --seconds $(SECONDS)

crash: $(BIN)/.ready ## Kill the server in the middle of the soak, again and again: nothing is lost, nothing counted twice.
	@$(BIN)/python -m benchmarks.crash

examples: $(BIN)/.ready ## Make the committed rule migrations of all examples anew.
	@$(BIN)/python -m dev.examples

house: $(BIN)/.ready ## Draw the rooms of the package and what imports what: docs/house.svg.
	@$(BIN)/python -m dev.house

bench-migrate: $(BIN)/.ready ## What 24 rules cost those who migrate, beside the same project without.
	@$(BIN)/python -m benchmarks.migrate

clean: ## Remove what the other commands have made.
	rm -rf $(VENV) .demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
