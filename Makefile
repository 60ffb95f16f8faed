# make repro   environment, then the whole experiment on the built-in corpus (dvc repro)
# make test    environment, lint, types, tests
# make ui      MLflow's pages on what was run, http://127.0.0.1:5000
# make bench   speed and memory, printed as tables
# make paper   a published result repeated: make paper PROFILE=ptb-zaremba-small [DATA=folder of the text]; lists them
# make lint    ruff and mypy alone

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := . $(VENV)/bin/activate &&
PORT ?= 5000
ORACLE := kenlm==0.3.0
DRIVER := psycopg2-binary==2.9.13

.PHONY: repro test bench paper ui lint env

repro: $(READY)
	@$(RUN) { git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true; }
	@# a dvc that was killed while it wrote this leaves it cut short, and no other one begins
	@$(RUN) { python -m json.tool .dvc/tmp/rwlock >/dev/null 2>&1 || rm -f .dvc/tmp/rwlock; }
	$(RUN) dvc repro
	@echo "Report: reports/compare/report.html (open it in a browser).  Every run: make ui"

test: lint
	$(RUN) python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(RUN) ruff check . && ruff format --check . && mypy

bench: $(READY)
	$(RUN) python -m benchmarks

paper: $(READY)
	$(RUN) python -m benchmarks.paper $(PROFILE) $(if $(DATA),--data "$(DATA)")

ui: $(READY)
	$(RUN) python -m nextword.tracking.ui --port $(PORT)

env: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nextword needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check $(ORACLE) || \
		echo "kenlm needs a C++ compiler and was not installed: the tests against it will be skipped"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check $(DRIVER) || \
		echo "psycopg2 was not installed: the test of a tracking server over PostgreSQL will be skipped"
	touch $@
