# make report: set up what is missing, run the quick study, build its report.   make test: set up, run the tests.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: report test book site clean

report: .venv/ready
	$(BIN)/mmcoa run quick
	$(BIN)/mmcoa book quick

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

# the published book, in book/_build/html: its pages are made of the committed results, those that are not current
book: .venv/ready
	$(BIN)/jupyter-book build -W --keep-going book/

# what is published: the same pages and one PDF in book/_build/site, links and sizes checked; needs Chromium or Chrome
site: .venv/ready
	$(BIN)/python -m mmcoa.report.publish book/_build/site $(if $(VERSIONS),--versions $(VERSIONS))

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"mmcoa needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Say: make PYTHON=python3.12 ...")'
	@echo "setting up .venv (some minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[book,dev,slurm]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1 clip-benchmark==1.6.2  # tests only; the one pins an old requests, the other wants caption metrics
	@touch $@

clean:
	rm -rf .venv runs results/quick book/_build book/*.ipynb book/tables book/figures
