# make study   the whole study, offline: installs into .venv, runs params/offline.yaml, prints the claims
# make test    lint, notebooks without outputs, the fast tests and one whole tiny study
# make test-all    the same, and then the slow tests: more studies, kills, several processes, benchmarks
# make cluster-test    a study on a one-node Slurm whose jobs are killed; as root, where Debian's slurm-wlm is installed
# make docs    the documentation as a site, in build/site; a warning or a broken link is an error
# make lab     JupyterLab on working copies of the notebooks, in lab/
# make lock    solve requirements.lock again from pyproject.toml
# Another Python (3.11 to 3.13): make study PYTHON=python3.12

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
STUDY ?= params/offline.yaml
BIN := .venv/bin
STRIP := $(BIN)/nbstripout --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets"

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: study test test-all cluster-test docs lab lock install clean

study: install
	@$(BIN)/python -m medstudy run $(STUDY)

test: install
	@$(BIN)/ruff check .
	@$(STRIP) --verify $$(find notebooks -name '*.ipynb' -not -path '*/.*')
	@$(PYTEST) -m "not slow"

test-all: test
	@$(PYTEST) -m slow

cluster-test: install
	@$(BIN)/python -m tests.cluster

docs: install
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -d build/doctrees -c docs . build/site
	@echo "Read on: build/site/docs/index.html"

lab: install
	@$(BIN)/python -m medstudy lab

install:
	@workflow/install.sh $(PYTHON)

lock: install
	$(BIN)/uv pip compile --system-certs --universal --generate-hashes --python-version 3.11 --no-header \
		--no-emit-index-url --extra cluster --extra docs --extra lab --extra reports --extra server --extra test \
		pyproject.toml -o requirements.lock

clean:
	rm -rf .venv runs .snakemake build
