# Tenfold. `make` alone lists the targets; a `## text` after a target is its line in that list.
#
# Variables: PYTHON=python3.12 picks the interpreter, VENV=.venv the environment, UV=no installs with pip alone,
# ARGS="..." is passed on to the target's command.

PYTHON ?= python3
VENV ?= .venv
UV ?=
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint format bench reproduce lock clean

INSTALLED := $(VENV)/.installed
RUN := "$(VENV)/bin/python"

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Create .venv and install everything; again only after pyproject.toml or constraints.txt changed
	@echo "Ready: $(VENV), $$($(RUN) --version)"

# uv takes seconds where pip takes two minutes, so uv is fetched first. uv does not read pip's configuration (a
# mirror, say), hence pip as the second try. Bytecode is written now: where PYTHONDONTWRITEBYTECODE is set,
# nothing would write it later, and each start would take twice as long.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Tenfold needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>/dev/null || echo missing)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV), once: under a minute with uv, minutes with pip, 6 GB of disk ..."
	@"$(PYTHON)" -m venv "$(VENV)"
	@uv=$$(command -v uv || true); \
	if [ "$(UV)" = no ]; then uv=; \
	elif [ -z "$$uv" ]; then \
	  $(RUN) -m pip install --quiet --disable-pip-version-check uv >/dev/null 2>&1 && uv="$(VENV)/bin/uv"; \
	fi; \
	{ [ -n "$$uv" ] && UV_COMPILE_BYTECODE=1 "$$uv" pip install --quiet --python $(RUN) \
	    --constraint constraints.txt --editable '.[dev]'; } \
	|| { [ -z "$$uv" ] || echo "uv could not install it; trying pip ..." >&2; \
	  $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; }
	@touch "$@"

demo: $(INSTALLED) ## Train SPAGAN on an embedded graph; no network, no account
	@$(RUN) run.py $(ARGS)

test: $(INSTALLED) ## Run the quick tests; ARGS="-m slow" runs the slow ones
	@OMP_NUM_THREADS="$${OMP_NUM_THREADS:-1}" $(RUN) -m pytest $(ARGS)

lint: $(INSTALLED) ## Check style, formatting and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(INSTALLED) ## Put the code into the house's format
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(INSTALLED) ## Time what is claimed to be fast against its reference: everything under benchmarks/
	@$(RUN) -m benchmarks.path_search $(ARGS)
	@$(RUN) -m benchmarks.training_step $(ARGS)
	@$(RUN) -m benchmarks.operations $(ARGS)
	@$(RUN) -m benchmarks.harness_overhead $(ARGS)
	@$(RUN) -m benchmarks.sweep_scaling $(ARGS)
	@$(RUN) -m benchmarks.osgan $(ARGS)
	@$(RUN) -m benchmarks.factorgcn $(ARGS)
	@$(RUN) -m benchmarks.netgraft $(ARGS)
	@$(RUN) -m benchmarks.lsp $(ARGS)
	@$(RUN) -m benchmarks.edge_conv $(ARGS)
	@$(RUN) -m benchmarks.deal $(ARGS)

reproduce: $(INSTALLED) ## Run the published comparisons over 20 seeds and write RESULTS.md; takes hours
	@$(RUN) -m benchmarks.reproduce $(ARGS)

lock: $(INSTALLED) ## Renew the exact versions in constraints.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv
	@$(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --no-header --no-annotate pyproject.toml --output-file constraints.txt

clean: ## Remove the environment and all caches; runs/, data/ and .cache/ stay
	rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
