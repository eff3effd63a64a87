# Two commands on a fresh machine with Python 3.11 or later:
#   make run    opens the app on http://127.0.0.1:7860
#   make test   runs every test
# For whoever works on the code: `make check` looks at lint and types and changes nothing, `make format` changes.
# All make their own virtual environment and install into it once; the stamp files let a second call start at once.

VENV   := .venv
BIN    := $(VENV)/bin
# The first interpreter that is new enough; override with `make run PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test check format clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed
	@$(BIN)/python app.py

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --max-worker-restart=0 $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build *.egg-info

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install it, or say where it is with PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing the app's packages into $(VENV) (a few minutes, once) ..."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing the test tools into $(VENV) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
