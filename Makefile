# Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
RUN ?= runs/$(shell date +%Y%m%d-%H%M%S)
ARGS ?=

.PHONY: install search test test-long lint format bench bench-search results clean

install: $(STAMP)

# torch is installed first and by its exact version: a looser requirement may take a build for CUDA of several GB.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "opnas needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# One folder a run: $(RUN). More options: make search ARGS="--corpus my.txt --seed 1"
search: install
	@$(BIN)/opnas search --out $(RUN) $(ARGS)
	@$(BIN)/opnas export $(RUN) --out $(RUN)/export
	@$(BIN)/opnas bench $(RUN) --quick

test: install
	$(BIN)/python -m pytest -n 2 --ignore tests/benchmarks
	$(BIN)/python -m pytest tests/benchmarks

# What takes minutes.
test-long: install
	$(BIN)/python -m pytest -n 2 -m long --ignore tests/benchmarks

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install
	$(BIN)/opnas bench $(ARGS)

# Every search strategy on tables that nobody here made: docs/search.md.
bench-search: install
	$(BIN)/python -m runtime.bench_search $(ARGS)

# BERT, AutoBERT-Zero and the best of a search, trained alike: docs/results.md. Under two hours on two cores; one
# that was stopped goes on. DATA holds wikitext-2/{valid,test}.txt, glue/SST-2 and glue/MRPC.
results: install
	$(BIN)/python -m runtime.results --data "$(DATA)" --out runs/results

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .benchmarks *.egg-info
