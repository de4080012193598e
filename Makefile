# `make demo` and `make test` work from a bare checkout with Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BENCH_STAMP := $(VENV)/installed-bench
PACKAGES := client/foreshock gpu/foreshock_gpu service/foreshock_service
DEMO_ARGUMENTS ?=
BENCH_ARGUMENTS ?=
PYTEST_ARGUMENTS ?=
# As many processes as there are cores. A file's tests stay together, for the sake of its fixtures.
TEST_PROCESSES ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# One thread a process: the tests measure counts, never speed, and share the machine with services.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-detection check format tools clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.txt constraints.txt client/pyproject.toml gpu/pyproject.toml \
		service/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

$(BENCH_STAMP): requirements-bench.txt $(STAMP)
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	touch $@

demo: $(STAMP) ## train a healthy and a sick model and see the incident come before the loss
	$(BIN)/foreshock demo $(DEMO_ARGUMENTS)

test: check tools $(BENCH_STAMP) ## everything that can be checked on this machine
	$(BIN)/python -m pytest $(TEST_PROCESSES) $(PYTEST_ARGUMENTS)

bench: $(BENCH_STAMP) ## what watching costs a training, beside a bare one and two other tools
	$(BIN)/python -m benchmarks.overhead $(BENCH_ARGUMENTS)

bench-detection: $(BENCH_STAMP) ## what is detected, and how early, beside what others use
	$(BIN)/python -m benchmarks.detection $(BENCH_ARGUMENTS)

check: $(STAMP) ## format, lint, types, import layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(PACKAGES) tests benchmarks
	$(BIN)/lint-imports
	@if test -f deno.json; then PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check-javascript.sh; fi

format: $(STAMP) ## rewrite the sources as `make check` wants them
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

tools: ## Chromium, Prometheus and PostgreSQL for the tests
	@scripts/system-packages.sh

clean: ## remove what was built; the database of a service stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
	rm -rf client/dist gpu/dist service/dist
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
