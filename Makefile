# Works with GNU make 3.81 (macOS) and later; needs Python 3.11 or newer and PyPI.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := sfumato/data/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-all check teacher clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F: '{printf "make %-10s%s\n", $$1, $$2}'

setup: .venv/.base ## install into .venv; then .venv/bin/sfumato --help

demo: .venv/.base ## the built-in portrait says the built-in speech: ./demo.mp4
	@start=$$(date +%s) && \
	$(BIN)/sfumato animate $(DEMO)/portrait.jpg $(DEMO)/speech.ogg --output demo.mp4 --force && \
	echo "The video lies at $(CURDIR)/demo.mp4; making it took $$(($$(date +%s) - start)) seconds."

serve: .venv/.server ## live in a web page at localhost, port 8000
	$(BIN)/sfumato serve

test: .venv/.dev ## the gate: quick and without torch
	$(BIN)/python -m pytest -m unit

test-all: .venv/.all ## all tests, with training and plug-ins (installs torch, LiveKit, Pipecat)
	$(BIN)/python -m pytest

check: .venv/.dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

teacher: .venv-teacher/.base ## the environment that labels training data

clean: ## remove environments, caches and the demo video
	rm -rf .venv .venv-teacher .mypy_cache .ruff_cache .pytest_cache demo.mp4
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: see https://www.python.org"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "Python's venv is missing. On Debian and Ubuntu:  sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

# Only what is used gets compiled, by the import at the end: that spares 30 MB and some seconds.
.venv/.base: pyproject.toml | .venv/bin/python
	$(PIP) --no-compile --editable .
	@$(BIN)/python -c 'import sfumato.avatar, sfumato.cli, c2pa, rich.progress'
	@touch $@

.venv/.server: .venv/.base
	$(PIP) --no-compile --editable '.[server]'
	@touch $@

.venv/.dev: .venv/.base
	$(PIP) --no-compile --editable '.[dev]'
	@touch $@

.venv/.train: .venv/.dev
	$(PIP) --no-compile --editable '.[dev,train]'
	@touch $@

.venv/.all: .venv/.train
	$(PIP) --no-compile --editable '.[dev,train,livekit,pipecat]'
	@touch $@

# MediaPipe 0.10.21 knows Python up to 3.12 and needs numpy < 2: it lives alone.
OLD_PYTHON = $(shell for p in $(PYTHON) python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && \
	echo $$p && break; done)

.venv-teacher/.base:
	@test -n "$(OLD_PYTHON)" || { echo "The teacher needs Python 3.11 or 3.12 beside a newer one."; exit 1; }
	$(OLD_PYTHON) -m venv .venv-teacher
	.venv-teacher/bin/python -m pip install --quiet --disable-pip-version-check mediapipe==0.10.21
	@touch $@
