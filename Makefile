# Works on a fresh clone with Python 3.11 or newer and a package index; README shows the plain pip way too.
PYTHON ?= python3
VENV ?= .venv

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: demo test browser check lint format types imports clients soak bench bench-full bench-smoke clean

demo: $(VENV)/.demo-ready  ## watch an image be uploaded once and forwarded from then on
	$(BIN)/gewe-cache demo

test: $(VENV)/.test-ready clients  ## the test suite, on SQLite and on a real PostgreSQL
	$(BIN)/python -m pytest -n auto --dist worksteal

browser: $(VENV)/.test-ready  ## the admin page in a real Chromium, which is not installed by this
	$(BIN)/python -m pytest tests/browser

check: lint format types imports test  ## lint, format, types, imports and tests; .ci/run holds more

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .

format: $(VENV)/.test-ready
	$(BIN)/ruff format --check .

types: $(VENV)/.test-ready
	$(BIN)/mypy

imports: $(VENV)/.test-ready
	$(BIN)/lint-imports

clients: $(VENV)/.test-ready  ## the published clients that proxy and adapters are tested with, each in .venv-clients/
	$(BIN)/python -m tests.clients.install

soak: $(VENV)/.test-ready  ## 10 minutes of 200 clients on the proxy, while GeWe's server and PostgreSQL are killed
	$(BIN)/python -m tests.server.soak 600 200

bench: $(VENV)/.bench-ready  ## what it costs and what it saves, side by side, into benchmarks/results/: minutes
	$(BIN)/python -m benchmarks --scale quick
	$(BIN)/python -m benchmarks.report

bench-full: $(VENV)/.bench-ready  ## the same with more rounds and sizes: an hour or so
	$(BIN)/python -m benchmarks --scale full
	$(BIN)/python -m benchmarks.report

bench-smoke: $(VENV)/.bench-ready  ## shows that the benchmarks run; its figures judge nothing
	$(BIN)/python -m benchmarks --scale smoke --only sends lookups --into $(VENV)/bench-smoke

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

$(VENV)/.bench-ready: $(VENV)/.test-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --group bench
	$(PYTHON) -c "open('$@', 'w').close()"
