# `make conus` shows everything on synthetic data; `make test` runs every check that is quick, and
# `make test-all` those that are not.
PYTHON ?= python3
BIN := .venv/bin
NODE := .venv/node/node_modules/.bin
STORE := conus/conus.zarr
TARGETS := income crop_yield house_price

.PHONY: env azurite conus test test-all test-kernels lint types tests clean

env:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
		{ echo "unigeo needs Python 3.12 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--config-settings editable_mode=strict --editable '.[test]'

conus: env
	$(BIN)/unigeo-produce --region conus
	$(BIN)/unigeo-produce places --out conus/places.csv
	$(BIN)/unigeo info $(STORE)
	$(BIN)/unigeo join $(STORE) conus/places.csv --out conus/places_joined.csv
	$(BIN)/unigeo probe $(STORE) conus/places.csv $(TARGETS:%=--target %) --out conus/probe.csv
	$(BIN)/unigeo preview $(STORE) --out conus/preview

test: env lint types tests

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types:
	$(BIN)/mypy

tests:
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov --cov-report=term

# What the slow tests need beside pip: a server of Azure's blobs.
azurite:
	-@test -x $(NODE)/azurite-blob || ! command -v npm > /dev/null || \
		npm install --silent --no-audit --no-fund --prefix .venv/node azurite

# Slow tests, and those of products under other kernels of BLAS and torch than this machine's own.
test-all: env azurite
	PATH="$$PWD/$(NODE):$$PATH" $(BIN)/python -m pytest -n 2 -m slow
	$(BIN)/python tests/rounding.py

# Under every kernel that this machine can run, with 1, 2 and 4 threads; about two hours.
test-kernels: env
	$(BIN)/python tests/rounding.py --all

clean:
	rm -rf build conus .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
