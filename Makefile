# `make demo` shows everything at work, `make test` proves it. Both need only Python 3.11 or later.
# The first run installs into .venv (with the versions in constraints.txt); later runs ask the network for nothing.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
FLAGS  ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-compiled compiled lint bench chaos reloads soak docs fmt clean fuzz

help:
	@echo "make demo    a sample API with the sidecar in front of it, on plans you can call (Ctrl-C ends it)"
	@echo "make test    lint, types and every test"
	@echo "make compiled      the request path compiled by mypyc, in build/compiled (needs a C compiler)"
	@echo "make test-compiled every test against it"
	@echo "make bench   this machine's requests per second, beside nginx, HAProxy, Envoy and aiohttp"
	@echo "make chaos   kills everything under load, again and again, and compares the books"
	@echo "make fuzz    a million spoilt requests and replies through the lane in memory, judged by h11"
	@echo "make reloads 1,000 reloads under load: no failed call, no connection closed, flat memory"
	@echo "make soak    an hour of mixed load, and whether the memory stays flat"
	@echo "make docs    writes the generated reference pages and JSON Schemas anew"
	@echo "make fmt     formats and fixes what can be fixed"
	@echo "make clean   removes .venv, caches and the demo's data"

demo: $(VENV)/.runtime
	@exec $(BIN)/python -u -m demo

test: lint
	$(BIN)/python -m pytest $(FLAGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A copy of the tree with the extension modules beside their sources, so that the tree itself stays pure Python.
compiled: build/compiled/.stamp

build/compiled/.stamp: setup.py pyproject.toml $(shell find sidecar tests -name '*.py' 2>/dev/null) | $(VENV)/.dev
	@rm -rf build/compiled && mkdir -p build/compiled
	@tar -cf - --exclude=./build --exclude='./.venv*' --exclude=./.git --exclude=./.demo --exclude=./data . | tar -xf - -C build/compiled
	@echo "compiling (about a minute)"
	@cd build/compiled && SIDECAR_COMPILE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace >compile.log 2>&1 || { tail -n 20 compile.log >&2; exit 1; }
	@touch $@

# Left out: what reads the sources, and tests that replace methods, which compiled classes do not allow.
test-compiled: compiled
	cd build/compiled && PYTHONPATH=$(abspath build/compiled) $(abspath $(BIN))/python -m pytest $(FLAGS) \
	  --ignore tests/test_architecture.py --ignore tests/e2e/test_image.py --ignore tests/chaos/test_controls.py \
	  --deselect tests/admission/test_buckets.py::test_counters_of_one_gate_do_not_displace_each_other \
	  --deselect tests/gateway/test_turns_and_stalls.py::test_a_held_body_that_fills_the_upstream_pauses_the_client \
	  --deselect tests/gateway/test_metered_replies.py::test_a_fault_of_the_tee_does_not_hold_the_reply

bench: $(VENV)/.dev
	@$(MAKE) --no-print-directory compiled || echo "no C compiler: the sidecar is measured as pure Python"
	@PYTHONPATH=$(abspath build/compiled) exec $(BIN)/python -m benchmarks $(BENCH)

chaos: $(VENV)/.dev
	$(BIN)/python -m pytest -m chaos
	$(BIN)/python -m tests.chaos $(CHAOS)

reloads: $(VENV)/.dev
	$(BIN)/python -m pytest -m chaos tests/e2e/test_reloads.py

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -s -m chaos tests/e2e/test_soak.py

# FUZZ="--inputs 1000 --seed 7 --lane 100" for fewer, the same again, all of the lane; what fails is kept in tests/fuzz/corpus.
fuzz: $(VENV)/.dev
	nice -n 19 $(BIN)/python -m tests.fuzz $(FUZZ)

docs: $(VENV)/.dev
	$(BIN)/python -m sidecar.config .

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# One stamp per step, each after the one before, so that `make -j` never runs two installs in one environment.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "The environment could not be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "installing into $(VENV) (once)"
	@$(PIP) install -c constraints.txt setuptools
	@$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing what tests need into $(VENV) (once)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
