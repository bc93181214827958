# What a checkout can do. `make` alone prints this list.
PYTHON ?= python3
BIN := .venv/bin
# A process a core and one more, as some tests wait for other programs, each with one thread. The tests of one file stay
# together, and so share what they set up; the longest files go first (tests/conftest.py).
WORKERS := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
export HF_HUB_OFFLINE ?= 1

.PHONY: help report test test-all check book site clean

help:  # print this list
	@grep -E '^[a-z-]+:.*  # ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  # /\1\t/' | expand -t 12

report: .venv/ready  # run the quick study and build its report
	$(BIN)/mmcoa run quick --jobs 2
	$(BIN)/mmcoa book quick

test: .venv/ready  # the tests but those marked slow, on all cores
	$(PYTEST) -m 'not slow'

test-all: check  # style, types and all tests: what CI runs
	$(PYTEST)

check: .venv/ready  # style, types and rooms, in a minute: what a commit should pass
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/test_rooms.py tests/test_packaging.py

book: .venv/ready  # the published book, from committed results
	$(BIN)/mmcoa book --no-summary

site: .venv/ready  # what is published, pages and one PDF, in book/_build/site, links and sizes checked; needs Chromium or Chrome
	$(BIN)/python -m mmcoa.report.publish book/_build/site $(if $(VERSIONS),--versions $(VERSIONS))

clean:  # remove the environment and all that is built
	rm -rf .venv runs results/quick book/_build book/tables book/figures

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"mmcoa needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Say: make PYTHON=python3.12 ...")'
	@echo "setting up .venv (some minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv  # installs in parallel, what pip does one by one
	@# Compiled as pip does it: else each process would compile torch anew where Python is told to write no bytecode.
	@# pip takes over where uv cannot, as with an index that only pip's configuration names. The last two are for tests only: the
	@# one pins an old requests, the other wants caption metrics.
	@set -f; for what in '--constraint constraints.txt --editable .[book,dev,slurm]' '--no-deps torchattacks==3.5.1 clip-benchmark==1.6.2'; do \
	    $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $$what || $(BIN)/python -m pip install --quiet --disable-pip-version-check $$what || exit 1; done
	@touch $@
