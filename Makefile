# `make` lists the targets. Everything runs in .venv, which `make setup` (a prerequisite of the others) creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
RUN_DIR ?= runs/demo
SEED   ?= 0
# Compile bytecode at installation, so that processes that cannot write it need not recompile at every start.
INSTALL = $(UV) pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable
# Suppresses the notice, shown on every build, that mkdocs-material's maintenance ends on 2027-05-05.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
# One thread per process: two busy processes on two cores lose more to spinning than they gain (BENCHMARKS.md).
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export HF_HUB_OFFLINE ?= 1

# Links to the top-level folders. An sdist does not contain them, so they are created there.
LINKS  := $(addprefix edit_r1/,shared reward_service trainer workbench worlds)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev browser demo serve test containers-check lint format types check align judge-table bench-demo bench bench-ablation gpu-check docs docs-serve package package-check audit sbom pins clean

help: ## list all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "Edit-R1 needs Python 3.11, 3.12 or 3.13; choose one with: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

edit_r1/%:
	ln -s ../$* $@

$(VENV)/.cpu: pyproject.toml constraints.txt | $(UV) $(LINKS)
	$(INSTALL) '.[cpu]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt overrides.txt | $(UV) $(LINKS)
	$(INSTALL) '.[dev]' --override overrides.txt
	@touch $(VENV)/.cpu $(VENV)/.docs $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(UV) $(LINKS)
	$(INSTALL) '.[docs]'
	@touch $@

setup: $(VENV)/.cpu ## create .venv with both programs for a laptop
setup-dev: $(VENV)/.dev ## like setup, plus dependencies of tests and lint (including vLLM's CPU build)

demo: setup ## train the tiny editor with the tiny judge and write a report (up to 6 minutes)
	@$(BIN)/python -m edit_r1.worlds.shapes.demo run_dir=$(RUN_DIR) seed=$(SEED)

serve: setup ## start the reward service with the tiny judge on http://127.0.0.1:8000
	$(BIN)/edit-r1 serve

browser: ## install Chromium with apt if it is missing (for tests of the web page)
	@test -n "$$CHROMIUM" || command -v chromium chromium-browser google-chrome >/dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends chromium)

test: setup-dev browser ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

containers-check: setup-dev ## build both container images and run them (docker/with-engine finds or starts an engine)
	docker/with-engine $(BIN)/python -m pytest tests/containers

lint: setup-dev ## run ruff (lint and format check) and import-linter (who may import whom)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: setup-dev ## fix lint and formatting with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev ## run mypy on all packages
	$(BIN)/mypy

check: lint types test ## run lint, types and tests, e.g. before a push (CI does more: .ci/run)

align: setup ## compare every scoring method with the oracle as the annotator (edit-r1 align on shapes, under 5 minutes)
	$(BIN)/python -m edit_r1.worlds.shapes.studies.preferences

judge-table: setup ## measure the accuracy of every scoring method against the oracle (README, BENCHMARKS.md)
	$(BIN)/python -m edit_r1.worlds.shapes.studies.judge_table

bench: setup-dev ## measure all figures in BENCHMARKS.md and update them (under 30 minutes on two cores)
	$(BIN)/python -m benchmarks

bench-demo: setup ## run the demo with three seeds, for docs/studies.md (12 minutes)
	$(BIN)/python -m benchmarks demo-seeds

bench-ablation: setup ## test the paper's findings on shapes, for docs/studies.md: eight variants, three seeds each (90 minutes)
	$(BIN)/python -m benchmarks ablation

# A GPU machine without network has no .venv; its own Python then needs the packages that the check names.
gpu-check: $(LINKS) ## measure memory, speed and numbers at real size on one NVIDIA GPU (under 8 minutes, no network)
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check

docs: $(VENV)/.docs ## build the documentation into site/; warnings are errors
	$(MKDOCS) build --strict --clean

docs-serve: $(VENV)/.docs ## serve the documentation on http://127.0.0.1:8001 and rebuild it on changes
	$(MKDOCS) serve --dev-addr 127.0.0.1:8001

package: | $(UV) ## build the sdist and, from it, the wheel, in dist/
	rm -rf dist
	$(UV) build --out-dir dist

package-check: setup-dev package sbom ## install and use the wheel outside the checkout, with and without extras
	$(BIN)/python -m pytest tests/package

# Tools of the extra `supply` run outside .venv: a bill of materials should not list the tool that wrote it.
SUPPLY = $(UV) tool run --constraints constraints.txt

# Without validation: it takes 20 s and only checks the tool's own output.
sbom: setup ## write dist/edit-r1.cdx.json, a CycloneDX bill of materials of .venv
	@mkdir -p dist
	$(SUPPLY) --from cyclonedx-bom cyclonedx-py environment --no-validate --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file dist/edit-r1.cdx.json $(BIN)/python

# `osv` uses osv.dev instead of PyPI.
AUDIT_SERVICE ?= pypi
AUDIT = $(SUPPLY) pip-audit --vulnerability-service $(AUDIT_SERVICE) --no-deps --disable-pip --strict --progress-spinner off

# First check a release with a known vulnerability: if advisories cannot be reached, pip-audit may report success.
audit: | $(UV) ## check the pins for known vulnerabilities; needs PyPI's advisories (not in CI)
	@mkdir -p .cache && echo jinja2==2.10 > .cache/known-hole.txt
	@$(AUDIT) --requirement .cache/known-hole.txt > .cache/known-hole.log 2>&1; \
	  grep -qE 'jinja2 +2\.10 +(CVE|GHSA|PYSEC)-' .cache/known-hole.log \
	  || { tail -n 1 .cache/known-hole.log; \
	       echo "make audit: no advisories from $(AUDIT_SERVICE) (none reported for jinja2 2.10, which has known vulnerabilities); nothing was audited" >&2; exit 1; }
	$(AUDIT) --requirement constraints.txt

pins: | $(UV) ## update constraints.txt
	$(UV) pip compile --quiet pyproject.toml --extra dev --extra supply --override overrides.txt --no-header --no-annotate --no-emit-index-url --output-file constraints.txt

clean: ## remove .venv, caches, runs and build outputs
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache dist runs site
