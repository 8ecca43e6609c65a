# `make conus` shows everything on real open data; `make test` runs every check that is quick, and
# `make test-all` those that are not.
PYTHON ?= python3
BIN := .venv/bin
NODE := .venv/node/node_modules/.bin
READERS := .venv/readers
READERS_OF_NODE := ol@10.11.0 proj4@2.22.0 zarrita@0.7.5
STORE := conus/conus.zarr
TARGETS := median_household_income bachelors_or_higher log10_pop_density diabetes obesity smoking \
	poor_mental_health uninsured pm25_2014_2018 temp_mean_2019_c

.PHONY: env azurite viewer conus test test-all test-kernels readers lint types tests clean

env:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
		{ echo "unigeo needs Python 3.12 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--config-settings-package unigeo:editable_mode=strict \
		--editable '.[test,conus]' --editable packages/unigeo-conus

conus: env
	$(BIN)/unigeo-produce --region conus --resolution 20000 --steps 200 \
		--set model.fused=64 --set training.numbers=2
	$(BIN)/unigeo info $(STORE)
	$(BIN)/unigeo example counties --out conus/counties.csv
	$(BIN)/unigeo join $(STORE) conus/counties.csv --out conus/counties_joined.csv
	$(BIN)/unigeo preview $(STORE) --out conus/preview
	$(BIN)/unigeo probe $(STORE) conus/counties.csv $(TARGETS:%=--target %) \
		--spatial residuals --out conus/probe.csv

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

# What builds and tests the page of `unigeo view`: packages of npm, and a browser, Debian's where it
# may be installed.
viewer:
	-@! command -v npm > /dev/null || npm ci --silent --prefix viewer
	-@command -v chromium > /dev/null || ! test "$$(id -u)" = 0 || \
		{ apt-get update -qq && apt-get install -qq -y chromium; } > /dev/null

# Slow tests, and those of products under other kernels of BLAS and torch than this machine's own.
test-all: env azurite readers viewer
	PATH="$$PWD/$(NODE):$$PATH" $(BIN)/python -m pytest -n 2 -m slow
	$(BIN)/python tests/rounding.py

# What else opens a store (docs/readers.md), in environments of their own: a store that the producer
# makes, and the readers of the extra `readers` and of npm.
readers: env
	@test -x $(READERS)/bin/python || $(BIN)/python -m venv --without-pip $(READERS)
	$(BIN)/uv pip install --quiet --python $(READERS)/bin/python --constraint constraints.txt \
		--config-settings editable_mode=strict --editable '.[readers]'
	-@! command -v npm > /dev/null || npm install --silent --no-audit --no-fund \
		--prefix .venv/node $(READERS_OF_NODE)
	rm -rf $(READERS)/store
	$(BIN)/python tests/readers/make_store.py $(READERS)/store
	UNIGEO_READERS=$(READERS)/store UNIGEO_READERS_NODE=.venv/node \
		$(READERS)/bin/python -m pytest -m readers tests/readers

# Under every kernel that this machine can run, with 1, 2 and 4 threads; about two hours.
test-kernels: env
	$(BIN)/python tests/rounding.py --all

clean:
	rm -rf build conus .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
