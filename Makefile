# Every target runs in .venv, which is made from pyproject.toml and constraints.txt.

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
JOBS ?= 2

VENV := .venv
BENCH := .bench
STAMP := $(VENV)/.installed
DOC := $(VENV)/.installed-doc
RUN := $(VENV)/bin/python

# SPHINXOPTS="-D plot_gallery=0" leaves the examples out, which take most of the time.
SPHINXOPTS ?=

.PHONY: help demo test test-all lint format doc bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

demo: $(STAMP) ## detect anomalies in real data and write skad-report/index.html
	$(RUN) -m skad demo

test: $(STAMP) ## run the tests and the documentation's examples, a sample of large matrices
	$(RUN) -m pytest --numprocesses $(JOBS) --dist loadgroup

test-all: $(STAMP) ## run all of every test, print the coverage
	$(RUN) -m pytest --numprocesses $(JOBS) --dist loadgroup --full --cov --cov-report term

lint: $(STAMP) ## check the style of the code
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(STAMP) ## mend the style of the code, write stubs and README's table of families anew
	$(RUN) -m tests._stubs
	$(RUN) -m tests._readme
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

doc: $(DOC) ## build the manual, doc/_build/html/index.html, examples and all
	OMP_NUM_THREADS=1 $(RUN) -m sphinx -b html -W --keep-going --quiet --jobs $(JOBS) \
	    $(SPHINXOPTS) doc doc/_build/html
	@echo "The manual is in doc/_build/html/index.html."

bench: $(BENCH)/.installed ## measure beside other libraries and write the table of the README
	OMP_NUM_THREADS=1 $(BENCH)/bin/python benchmarks/bench_peers.py tables readme

clean: ## remove what the other targets made
	rm -rf $(VENV) $(BENCH) doc/_build doc/generated skad-report .coverage .pytest_cache \
	    .ruff_cache .mypy_cache .hypothesis

# The first interpreter of $(PYTHON) that is new enough and can make environments.
$(STAMP): pyproject.toml constraints.txt
	@for python in $(PYTHON); do \
	    if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
	        2> /dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "error: none of '$(PYTHON)' is Python 3.11 or newer with the venv module." \
	        "Install one (Debian: python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$("$$found" --version); this downloads torch and takes minutes."; \
	"$$found" -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt setuptools
	@$(RUN) -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --no-build-isolation \
	    --editable '.[neighbors,report,parquet,test,lint]'
	@touch $@

$(DOC): $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --no-build-isolation --editable '.[doc]'
	@touch $@

$(BENCH)/.installed: $(STAMP) benchmarks/requirements.txt
	$(RUN) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --requirement benchmarks/requirements.txt \
	    --editable '.[neighbors]'
	@touch $@
