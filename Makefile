PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint package clean

run: .venv/installed
	$(BIN)/hierfed run paper
	$(BIN)/hierfed run hierarchical
	$(BIN)/hierfed recommend runs/hierarchical --user 7 -k 5

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

package: .venv/installed-dev
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[data]'
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[browser,data,docs,excel,flower,postgresql,privacy,serve,tracking,dev]'
	touch $@

clean:
	rm -rf .venv runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
