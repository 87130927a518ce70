# Works with GNU make 3.81 and any POSIX shell. Every target sets up what it
# needs by itself; a second start finds it there.
#
#   PYTHON=python3.12   the Python to make the environment with
#   ARGS="-k ladder"    options for pytest, manage.py or the benchmark
#   PORT, DATA_DIR, ... the service's own settings, as variables or arguments

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run stack manage test chaos bench scaling pictures lint lock \
    clean

# Keep another project's modules out of this environment.
unexport PYTHONHOME
unexport PYTHONPATH

PY := .venv/bin/python
VENV := sh deploy/local/venv.sh
SOURCES := manage.py config apps deploy tests

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } \
	    /^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' Makefile

run: ## the service on this machine, with a PostgreSQL of its own
	@$(VENV) standalone
	@exec $(PY) -m deploy.local run

stack: ## the same with RabbitMQ: web, worker and dispatcher
	@$(VENV) standalone stack
	@exec $(PY) -m deploy.local stack

manage: ## manage.py for what runs; ARGS="api_keys list"
	@$(VENV) standalone
	@exec $(PY) -m deploy.local manage $(ARGS)

test: ## the whole test suite, with the servers it needs
	@$(VENV) dev
	@exec $(PY) -m deploy.local test -m "not chaos and not load" $(ARGS)

chaos: ## kill, stop and partition everything; prints what became of timers
	@$(VENV) dev
	@exec $(PY) -m deploy.local test -m chaos tests/chaos $(ARGS)

bench: ## measure the service beside others, on this machine; ARGS=--quick
	@$(VENV) bench stack
	@exec $(PY) -m tests.load.bench $(ARGS)

scaling: ## measure how it grows with its processes; size and simulate more
	@$(VENV) bench stack
	@exec $(PY) -m tests.load.scaling $(ARGS)

pictures: ## make docs/pages.md and its pictures of all pages anew
	@$(VENV) dev
	@exec $(PY) -m deploy.local test -q -s -n 0 tests/browser/pictures.py

lint: ## ruff, mypy, pycodestyle; which way imports go; links in the docs
	@$(VENV) dev
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pycodestyle $(SOURCES)
	.venv/bin/lint-imports --no-logo --no-cache
	$(PY) -m tests.links

lock: ## resolve the dependencies anew (needs uv)
	@sh deploy/lock.sh $(ARGS)

clean: ## remove the environment and caches; timers stay in .data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
