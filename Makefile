# Every verb sets up what it needs in .venv first, and again only when the project file or a lock has changed.
# Needs: python3 (3.11 or newer, with venv), make, git. `make VERB ARGS="..."` hands arguments on.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := core adapters cmd tests tools $(wildcard benchmarks)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test check gen lint format types bench lock breaking

help: ## Print this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r verb text; do \
		printf '  make %-9s %s\n' "$$verb" "$$text"; done

setup: .venv/.dev ## Install everything for development into .venv, and the hooks that run before a commit.
	-$(BIN)/pre-commit install

run: .venv/.runtime ## Start the server; data lands in ./data.
	$(BIN)/busbar serve $(ARGS)

test: .venv/.dev ## Run the tests; ARGS="tests/maker -k pins" picks some.
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest --numprocesses auto --dist worksteal
endif

check: .venv/.dev ## Run everything that must pass before a change lands: generated code, protos, style, types, tests.
	$(BIN)/python tools/generate.py --check
	$(BIN)/buf lint 'gen/descriptors.binpb#format=binpb' --config buf.yaml --path busbar
	$(BIN)/python tools/breaking.py
	$(MAKE) lint types test

gen: .venv/.dev ## Generate gen/ from proto/, and the schema of empty files from its history.
	$(BIN)/python tools/generate.py
	$(BIN)/python tools/schema.py

lint: .venv/.dev ## Check style and formatting.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/.dev ## Mend style and formatting.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/.dev ## Check types.
	$(BIN)/basedpyright $(SOURCES)

breaking: .venv/.dev ## Compare the protos with those of the commit that set the present version.
	$(BIN)/python tools/breaking.py

bench: .venv/.dev ## Measure the performance budgets; ARGS="NAME ..." picks some.
	$(BIN)/python -m benchmarks $(ARGS)

lock: .venv/.dev ## Take the newest releases that pyproject.toml allows into both locks.
	$(BIN)/uv pip compile $(LOCK) --upgrade --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --upgrade --output-file requirements-dev.lock --extra dev --constraint requirements.lock pyproject.toml

# One lock serves every platform and every Python that we support, and names no index: the installer knows its own.
LOCK := --quiet --universal --python-version 3.11 --group build --generate-hashes --no-emit-index-url --no-emit-find-links --no-header

# The package is built by what the lock brings, so no install asks an index for a build tool.
define install
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(1)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endef

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml requirements.lock | .venv/pyvenv.cfg
	$(call install,requirements.lock)
	@touch $@

# Holds all of the runtime lock, in the same releases.
.venv/.dev: pyproject.toml requirements.lock requirements-dev.lock | .venv/pyvenv.cfg
	$(call install,requirements-dev.lock)
	@touch .venv/.runtime $@
