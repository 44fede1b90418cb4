# Every target sets up what it needs in .venv, from hash-locked files; a second run is instant.
#   make test PYTHON=python3.13          another interpreter (remove .venv first)
#   make test ARGS="-k fence -x"         arguments for pytest, the demo or a bench
#   make test JOBS=0                     in one process: --pdb works there
#   make lock LOCK_FLAGS=--upgrade       newer versions

PYTHON ?= python3
ARGS ?=
LOCK_FLAGS ?=
TRIALS ?= 30
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Only wheels: nothing that is downloaded runs code while it is installed. One exception: wordllama has no
# wheel for Linux on ARM nor for Python 3.14, and is built there from its hash-checked source.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
INSTALL := $(PIP) --require-hashes --only-binary :all:
FROM_SOURCE = $(shell $(BIN)/python -c 'import platform as p, sys; \
	print("--no-binary wordllama" * (sys.version_info >= (3, 14) or p.system() + p.machine() == "Linuxaarch64"))')

# As root the servers that the tests need can be installed, so a missing one is a failure, not a skip.
SERVERS := $(shell [ "$$(id -u)" = 0 ] && echo REVEC_REQUIRE_SERVERS=1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test stress check lint types imports format lock

help:  ## show these lines
	@sed -nE 's/^([a-z%-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(VENV)/.demo  ## a real index moves to a new model under live writes; ends with a table
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(VENV)/.test  ## all tests, on real Postgres
	@tools/debian-packages.sh pgbouncer prometheus prometheus-alertmanager
	@$(SERVERS) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

stress: $(VENV)/.test  ## the fault tests, TRIALS=30 times each
	@tools/debian-packages.sh pgbouncer
	@$(SERVERS) REVEC_TRIALS=$(TRIALS) $(BIN)/python -m pytest -m stress -o faulthandler_timeout=3600 $(ARGS)

check: lint types imports  ## lint, types and imports

lint: $(VENV)/.check  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.check  ## mypy --strict on src
	@$(BIN)/mypy

imports: $(VENV)/.check  ## import-linter: who may import whom
	@$(BIN)/lint-imports

format: $(VENV)/.check  ## let ruff mend what it can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench-%: $(VENV)/.test  ## measure one thing beside its peer: bench-writes, bench-queue, bench-shadow
	@$(BIN)/python -m bench.$(subst -,_,$*) $(ARGS)

# In this order: each file agrees with the ones before it, because all of them share one .venv.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-config --python $(BIN)/python --no-python-downloads --quiet --custom-compile-command "make lock"

lock: $(VENV)/.lock  ## write requirements/*.txt anew from pyproject.toml and requirements/*.in
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra up --extra local --extra openai --extra serve requirements/demo.in -o requirements/demo.txt
	$(COMPILE) $(LOCK_FLAGS) requirements/build.in -c requirements/demo.txt -o requirements/build.txt
	$(COMPILE) $(LOCK_FLAGS) requirements/test.in -c requirements/demo.txt -c requirements/build.txt -o requirements/test.txt
	$(COMPILE) $(LOCK_FLAGS) requirements/check.in -c requirements/demo.txt -c requirements/build.txt -c requirements/test.txt -o requirements/check.txt
	$(COMPILE) $(LOCK_FLAGS) requirements/lock.in -o requirements/lock.txt

# --- the environment: one stamp per set of requirements -----------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; (3, 11) <= sys.version_info < (3, 15) or \
		sys.exit("the locked packages are for Python 3.11 to 3.14, this is " + v + ": make PYTHON=python3.x")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/debian-packages.sh python3-venv
	@echo "setting up .venv"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: requirements/demo.txt requirements/build.txt pyproject.toml | $(VENV)/.made
	@echo "installing requirements/demo.txt"
	@$(if $(FROM_SOURCE),tools/debian-packages.sh gcc python3-dev)
	@$(INSTALL) $(FROM_SOURCE) -r requirements/build.txt -r requirements/demo.txt
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.demo
	@echo "installing requirements/test.txt"
	@$(INSTALL) -r requirements/test.txt
	@touch $@

$(VENV)/.check: requirements/check.txt $(VENV)/.demo
	@echo "installing requirements/check.txt"
	@$(INSTALL) -r requirements/check.txt
	@touch $@

$(VENV)/.lock: requirements/lock.txt | $(VENV)/.made
	@$(INSTALL) -r requirements/lock.txt
	@touch $@
