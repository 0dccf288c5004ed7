# Works on a fresh clone with Python 3.11 or newer and a package index; README shows the plain pip way too.
PYTHON ?= python3
VENV ?= .venv

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: demo test browser check lint format types imports clients soak clean

demo: $(VENV)/.demo-ready  ## watch an image be uploaded once and forwarded from then on
	$(BIN)/gewe-cache demo

test: $(VENV)/.test-ready clients  ## the whole suite, on SQLite and on a real PostgreSQL
	$(BIN)/python -m pytest -n auto

browser: $(VENV)/.test-ready  ## the admin page in a real Chromium, which is not installed by this
	$(BIN)/python -m pytest tests/browser

check: lint format types imports test  ## everything that CI holds

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .

format: $(VENV)/.test-ready
	$(BIN)/ruff format --check .

types: $(VENV)/.test-ready
	$(BIN)/mypy

imports: $(VENV)/.test-ready
	$(BIN)/lint-imports

clients: $(VENV)/.test-ready  ## the published clients that the proxy is tested with, each in .venv-clients/
	$(BIN)/python -m tests.clients.install

soak: $(VENV)/.test-ready  ## 10 minutes of 200 clients on the proxy, while GeWe's server and PostgreSQL are killed
	$(BIN)/python -m tests.server.soak 600 200

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(name, ignore_errors=True) for name in ('$(VENV)', '.venv-clients')]"

$(VENV)/.venv-ready:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PYTHON) -c "open('$@', 'w').close()"

$(VENV)/.demo-ready: $(VENV)/.venv-ready pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[postgres,sandbox,server]"
	$(PYTHON) -c "open('$@', 'w').close()"

$(VENV)/.test-ready: $(VENV)/.demo-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	$(PYTHON) -c "open('$@', 'w').close()"
