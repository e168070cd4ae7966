# Needs Python >= 3.11 and make. Everything is installed into .venv; nothing outside this folder is changed.
#   make setup PYTHON=python3.12                 another interpreter
#   make setup PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"      torch without CUDA (Linux)

PYTHON    ?= python3
PIP_FLAGS ?=
VENV      := .venv
BIN       := $(VENV)/bin
STAMP     := $(VENV)/.setup-done
RECENT    := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test lowest demo lint types typed clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## create .venv and install sabsim with its development tools (once)

# A .venv that works is kept, whoever made it; one that is missing, broken or too old is made anew.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -c 'import pip; $(RECENT)' 2>/dev/null || { \
	    command -v $(PYTHON) >/dev/null || { \
	        echo "sabsim needs Python 3.11 or newer, but '$(PYTHON)' was not found; try: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	    $(PYTHON) -c '$(RECENT)' || { \
	        echo "sabsim needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.11" >&2; exit 1; }; \
	    echo "creating $(VENV) with $$($(PYTHON) --version)"; \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu the package python3-venv provides it" >&2; exit 1; }; }
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

test: lint types  ## ruff, mypy and the tests (setup first, if needed)
	$(BIN)/pytest -n auto --maxprocesses 4

# Not part of the tests: on Linux the lowest torch brings NVIDIA's libraries. Old releases have warnings of their own.
lowest: setup  ## the tests with every dependency at its lower bound (several GB, in .lowest)
	$(BIN)/python tests/lowest.py > .lowest.txt
	$(PYTHON) -m venv --clear .lowest
	.lowest/bin/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -r .lowest.txt
	.lowest/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	.lowest/bin/pytest -n auto --maxprocesses 4 -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::ResourceWarning \
	    --deselect tests/test_packaging.py::test_all_that_is_installed_is_pinned

demo: setup  ## train the demonstration online; leaves figures, a report and the runs in runs/demo/
	$(BIN)/sabsim demo

lint: setup  ## ruff on everything
	$(BIN)/ruff check .

types: setup typed  ## mypy on the shipped package
	$(BIN)/mypy

# The four folders as the one package they install as: .typed/sabsim/NAME -> the real file or folder.
typed:
	@mkdir -p .typed/sabsim
	@for link in .typed/sabsim/*; do [ -e "$$link" ] || rm -f "$$link"; done
	@cd .typed/sabsim && for entry in ../../sabsim/* ../../envs ../../agents ../../analysis; do \
	    case "$$entry" in */__pycache__) ;; *) ln -sfn "$$entry" . ;; esac; done

clean:  ## remove build artefacts, caches and the type checker's links (keeps .venv and runs/)
	rm -rf build dist .lowest .lowest.txt .typed .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find sabsim envs agents analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +
