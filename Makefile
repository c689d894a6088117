# The only set-up: `make demo` or `make test`. Each makes .venv here and installs what it needs from PyPI, once.
#
# Variables: PYTHON (the interpreter that makes .venv, 3.11 or newer), WORKERS (processes of the test runner),
# ARGS (more arguments for pytest or the demo).

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
DURATIONS := --durations=10 --durations-min=10

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# pip and zig keep caches below HOME; a container may not have one.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/$(VENV)/home
endif

.PHONY: help demo test test-slow test-all bench c-path sweep lint format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/demo.stamp  ## quantize the shipped float model and run it on an emulated Cortex-M7
	$(BIN)/python examples/digits/demo.py $(ARGS)

test: $(VENV)/test.stamp  ## the fast tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not qemu and not slow" $(DURATIONS) $(ARGS)

test-slow: $(VENV)/test.stamp  ## what `make test` leaves out: whole models, QEMU, cross compilers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "qemu or slow" $(DURATIONS) $(ARGS)

test-all: $(VENV)/test.stamp  ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

bench: $(VENV)/test.stamp  ## models on emulated cores beside recorded peers: a table, build/bench/mcu.json and mcu.svg
	$(BIN)/python bench/mcu.py --output build/bench $(ARGS)

c-path: $(VENV)/test.stamp  ## the C source by gcc beside LLVM's objects: instructions of models and layers (some minutes)
	$(BIN)/python bench/c_path.py $(ARGS)

sweep: $(VENV)/test.stamp  ## 500 random layers through the kernels of every instruction set (some minutes)
	$(BIN)/python bench/sweep.py $(ARGS)

lint: $(VENV)/test.stamp  ## format, style, types, layers, length of files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_file_length.py

format: $(VENV)/test.stamp  ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and all that was built or cached
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p "$(HOME)" 2>/dev/null || true
	@touch $@

$(VENV)/demo.stamp: $(VENV)/python.stamp pyproject.toml
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/python.stamp pyproject.toml
	$(PIP) install --editable '.[test]'
	@touch $@
