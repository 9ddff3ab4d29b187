# The two commands of the README are `make demo` and `make test`; `make help` lists the others.
#
# Needs only make and Python 3.11 to 3.13: everything else goes into .venv (VENV=... moves it), in exactly the
# versions and bytes that the requirements files pin.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# Folder of a DICOM series for `make demo`; a generated phantom is sent in any case.
DICOM ?=
DEMO_ARGS ?=
BENCH_ARGS ?= --quick
# 0: one process; 2: two tests at a time (figures that tests measure then disturb each other).
TEST_WORKERS ?= 0
PYTEST_ARGS ?=
CHECKED := models object_store planner serving loadtest tests

# `make PYTHON=python3.12` names an interpreter; otherwise the first on PATH that will do.
SUPPORTED := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$name; exit; }; done; echo python3)

PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
INSTALL = $(PIP) install --require-hashes -r
INSTALL_LIGHTBOX = $(PIP) install --no-deps --no-build-isolation --editable .

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1 \t\2/p' Makefile | expand -t 20

# --- the environment ---------------------------------------------------------------------------------------------
# A stamp inside $(VENV) says which requirements file it was last filled from, so each is installed once.

.PHONY: venv
venv: $(VENV)/.runtime ## the environment that compiles and serves: no torch, no test tools

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c '$(SUPPORTED)' >/dev/null 2>&1 || { \
		echo "Lightbox needs Python 3.11 to 3.13 with its venv module; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo not there). Name one that fits: make PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Lightbox and what it runs on into $(VENV) (about 515 MB; a minute or two, once) ..."
	@$(INSTALL) requirements.txt
	@$(INSTALL_LIGHTBOX)
	@touch $@

$(VENV)/.%: requirements-%.txt $(VENV)/.runtime
	@echo "Adding what '$*' needs to $(VENV) (once) ..."
	@$(INSTALL) requirements-$*.txt
	@touch $@

.PHONY: test-setup bench-setup train-setup
test-setup: $(VENV)/.test ## add what the tests need
bench-setup: $(VENV)/.bench ## add every extra that the benches need
train-setup: $(VENV)/.train ## add torch and onnx, to train the bundled network

# torch comes without a hash: its builds differ by where they are taken from (docs/dependencies.md).
$(VENV)/.train: $(VENV)/.test
	@echo "Adding torch to $(VENV) (once) ..."
	@$(PIP) install torch==2.13.0
	@touch $@

# --- using it ----------------------------------------------------------------------------------------------------

.PHONY: demo serve
demo: $(VENV)/.runtime ## a CT series in, segmentations out, on free loopback ports; DICOM=path/to/series adds yours
	@$(BIN)/lightbox demo $(if $(DICOM),--dicom "$(DICOM)") $(DEMO_ARGS)

serve: $(VENV)/.runtime ## the same, and the server stays up
	@$(BIN)/lightbox demo --stay $(if $(DICOM),--dicom "$(DICOM)") $(DEMO_ARGS)

.PHONY: bench loadtest
bench: $(VENV)/.bench ## every benchmark (BENCH_ARGS=--quick by default); docs/benchmarks.md has the full figures
	@mkdir -p .bench
	@$(BIN)/lightbox bench all $(BENCH_ARGS) --json .bench/all.json

loadtest: $(VENV)/.bench ## a minute of mixed C-STORE and STOW-RS against a fresh server
	@$(BIN)/lightbox bench load $(BENCH_ARGS)

# --- checking it -------------------------------------------------------------------------------------------------

.PHONY: test lint
test: lint ## lint, types and the whole test suite; pytest's summary is the last thing printed
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.test ## ruff, mypy --strict, hadolint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CHECKED)
	@$(BIN)/hadolint --config .hadolint.yaml Dockerfile

# --- keeping it --------------------------------------------------------------------------------------------------

# Writes no host into the files. Keeps versions that still fit; `make lock UPGRADE=--upgrade` takes the newest.
UPGRADE ?=
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header $(UPGRADE)

.PHONY: lock
lock: | $(VENV)/pyvenv.cfg ## write the requirements files anew from pyproject.toml
	@$(BIN)/uv --version >/dev/null 2>&1 || $(PIP) install uv==0.13.8
	@$(LOCK) --group build --extra planner --output-file requirements.txt >/dev/null
	@$(LOCK) --group build --extra planner --extra test --constraint requirements.txt --output-file requirements-test.txt >/dev/null
	@$(LOCK) --group build --extra planner --extra test --extra bench --constraint requirements-test.txt \
		--output-file requirements-bench.txt >/dev/null

.PHONY: clean
clean: ## remove what was made here, the environment included; data folders stay
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
