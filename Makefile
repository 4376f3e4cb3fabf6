# `make` alone lists what there is. Everything runs in .venv, which `make setup` (called by the others) creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
RUN_DIR ?= runs/demo
SEED   ?= 0
# Compiled once, not by every process that starts where Python may not write what it compiles.
INSTALL = $(UV) pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable
# Without the notice that mkdocs-material's maintenance ends on 2027-05-05, which comes with every build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
# One thread a process: two busy processes on two cores lose more to spinning than they win (BENCHMARKS.md).
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export HF_HUB_OFFLINE ?= 1

# What links to the folders at the top in a checkout. An sdist has no links: they are made there.
LINKS  := $(addprefix edit_r1/,shared reward_service trainer workbench worlds)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev browser demo serve test containers-check lint format types check align judge-table bench-demo bench bench-ablation docs docs-serve package package-check audit sbom pins clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "Edit-R1 needs Python 3.11 or 3.12; name one: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

edit_r1/%:
	ln -s ../$* $@

$(VENV)/.cpu: pyproject.toml constraints.txt | $(UV) $(LINKS)
	$(INSTALL) '.[cpu]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(UV) $(LINKS)
	$(INSTALL) '.[dev]'
	@touch $(VENV)/.cpu $(VENV)/.docs $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(UV) $(LINKS)
	$(INSTALL) '.[docs]'
	@touch $@

setup: $(VENV)/.cpu ## make .venv with both programs for a laptop
setup-dev: $(VENV)/.dev ## the same, with what tests and lint need (adds vLLM's CPU build)

demo: setup ## train the tiny editor against the tiny judge and write a report (at most 6 minutes)
	@$(BIN)/python -m edit_r1.worlds.shapes.demo run_dir=$(RUN_DIR) seed=$(SEED)

serve: setup ## start the reward service with the tiny judge on http://127.0.0.1:8000
	$(BIN)/edit-r1 serve

browser: ## install Chromium, which the tests of the page drive, with apt where there is none
	@test -n "$$CHROMIUM" || command -v chromium chromium-browser google-chrome >/dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends chromium)

test: setup-dev browser ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

containers-check: setup-dev ## build both images and run them (docker/with-engine finds or starts an engine)
	docker/with-engine $(BIN)/python -m pytest tests/containers

lint: setup-dev ## ruff: lint and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev ## mypy over all packages
	$(BIN)/mypy

check: lint types test ## lint, types and tests: before a push (CI does more: .ci/run)

align: setup ## every scoring method beside the oracle as the human (edit-r1 align on shapes, under 5 minutes)
	$(BIN)/python -m edit_r1.worlds.shapes.studies.preferences

judge-table: setup ## accuracy of every scoring method against the oracle (README, BENCHMARKS.md)
	$(BIN)/python -m edit_r1.worlds.shapes.studies.judge_table

bench: setup-dev ## measure all figures of BENCHMARKS.md and write them there (under 30 minutes on two cores)
	$(BIN)/python -m benchmarks

bench-demo: setup ## the demo over three seeds, for docs/studies.md (12 minutes)
	$(BIN)/python -m benchmarks demo-seeds

bench-ablation: setup ## the paper's findings on shapes, for docs/studies.md: eight variants, three seeds each (an hour and a half)
	$(BIN)/python -m benchmarks ablation

docs: $(VENV)/.docs ## build the site of docs/ into site/; a warning is an error
	$(MKDOCS) build --strict --clean

docs-serve: $(VENV)/.docs ## show the site on http://127.0.0.1:8001 and build it anew when a page changes
	$(MKDOCS) serve --dev-addr 127.0.0.1:8001

package: | $(UV) ## build the sdist and, from it, the wheel into dist/
	rm -rf dist
	$(UV) build --out-dir dist

package-check: setup-dev package sbom ## install the wheel outside the checkout and use it, with its extras and without
	$(BIN)/python -m pytest tests/package

# Tools of the extra `supply` run beside .venv: a bill of materials should not list what wrote it.
SUPPLY = $(UV) tool run --constraints constraints.txt

# Not validated: the schema takes 20 s and only repeats what the writer knows.
sbom: setup ## write dist/edit-r1.cdx.json, a CycloneDX bill of materials of what .venv holds
	@mkdir -p dist
	$(SUPPLY) --from cyclonedx-bom cyclonedx-py environment --no-validate --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file dist/edit-r1.cdx.json $(BIN)/python

# `osv` asks osv.dev instead of PyPI.
AUDIT_SERVICE ?= pypi
AUDIT = $(SUPPLY) pip-audit --vulnerability-service $(AUDIT_SERVICE) --no-deps --disable-pip --strict --progress-spinner off

# A release with a known hole comes first: where advisories cannot be reached, pip-audit may find nothing and call it well.
audit: | $(UV) ## known vulnerabilities of the pins; needs the advisories of PyPI (not in CI)
	@mkdir -p .cache && echo jinja2==2.10 > .cache/known-hole.txt
	@$(AUDIT) --requirement .cache/known-hole.txt > .cache/known-hole.log 2>&1; \
	  grep -qE 'jinja2 +2\.10 +(CVE|GHSA|PYSEC)-' .cache/known-hole.log \
	  || { tail -n 1 .cache/known-hole.log; \
	       echo "make audit: no advisories from $(AUDIT_SERVICE): jinja2 2.10 has known holes, and none was named; nothing was audited" >&2; exit 1; }
	$(AUDIT) --requirement constraints.txt

pins: | $(UV) ## write constraints.txt anew
	$(UV) pip compile --quiet pyproject.toml --extra dev --extra supply --no-header --no-annotate --no-emit-index-url --output-file constraints.txt

clean: ## remove .venv, caches, runs and what was built
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache dist runs site
