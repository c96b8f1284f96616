# MIRAGE: the commands. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
VENV_BUILD := .venv-build
VENV_EXPORT := .venv-export
BIN := $(CURDIR)/$(VENV)/bin
BIN_BUILD := $(CURDIR)/$(VENV_BUILD)/bin
BIN_EXPORT := $(CURDIR)/$(VENV_EXPORT)/bin
PARTS := libs/mirage_protos libs/mirage_api libs/mirage_core libs/mirage_inference libs/mirage services/encoder services/retriever services/gateway services/llm services/generator services/reader models atlas launcher
PROJECTS := $(PARTS:%=%/pyproject.toml)
EDITABLE := $(PARTS:%=-e %)
TRAINING := -e training
PAGE := services/gateway/page
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help setup demo down test coverage check lint imports types protos protos-check lock lock-check docs docs-check page page-check bench setup-dev \
	setup-build setup-export setup-openvino test-build test-qdrant compose-test compose-up compose-down test-durability test-engines mini-bundle clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.runtime ## Install what `make demo` needs into .venv (no torch)
setup-dev: $(VENV)/.dev ## The same and what tests and checks need
setup-build: $(VENV_BUILD)/.build ## Install what building and training models needs into .venv-build (torch)

setup-openvino: setup ## Add the reader's engine openvino-genai to .venv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/reader-openvino-genai.txt
setup-export: $(VENV_EXPORT)/.export ## Install what exports reading models for it into .venv-export (torch)

demo: setup ## Start everything on this machine with the mini models and the demo atlas
	@$(BIN)/mirage up --port $(PORT)

down: ## Stop what `make demo` or `mirage up --detach` started
	@$(BIN)/mirage down

test: setup-dev ## Run the tests (needs Chromium for the page's), in two processes; ARGS= runs a part, COVERAGE=1 measures
	$(if $(ARGS),$(BIN)/python -m $(if $(COVERAGE),coverage run -m) pytest $(ARGS),COVERAGE=$(COVERAGE) tools/test.sh $(BIN)/python)

coverage: ## Show what `make test COVERAGE=1` covered; fails below the bar in pyproject.toml
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

check: setup-dev lint imports types protos-check docs-check lock-check page-check ## Lint, import order, types, contracts, generated files and locks

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports:
	$(BIN)/lint-imports

types:
	$(BIN)/mypy
	$(BIN)/mypy --config-file tools/mypy-tests.ini

protos: setup-dev ## Generate the stubs of protos/ again
	tools/generate_stubs.sh

protos-check:
	cd protos && $(BIN)/buf lint && $(BIN)/buf format --diff --exit-code
	tools/generate_stubs.sh --check
	tools/check_breaking.sh

docs: setup-dev ## Write the generated tables in docs and READMEs again
	$(BIN)/python tools/generate_docs.py

docs-check:
	$(BIN)/python tools/generate_docs.py --check
	$(BIN)/python tools/check_links.py

lock: setup-dev ## Resolve requirements/*.txt again
	tools/lock.sh

lock-check:
	tools/lock.sh --check

page: $(PAGE)/generated/api.d.ts ## Build the page from services/gateway/page (needs Node 20)
	cd $(PAGE) && npm run --silent build

page-check: $(PAGE)/generated/api.d.ts
	cd $(PAGE) && npm run --silent check

bench: setup-dev setup-build ## Measure against peers on this machine; writes reports/bench.md and .json
	$(BIN_BUILD)/python -m bench --out reports

test-build: setup-build ## Run the tests that need torch: builder, parity, training, a reading model in the reader
	OMP_WAIT_POLICY=passive $(BIN_BUILD)/python -m pytest -c tools/pytest-build.ini --rootdir=. models/tests_build training/tests_build atlas/tests_build \
		services/reader/tests/test_openvino_genai.py $(ARGS)

test-qdrant: setup-dev ## Run the engine contract on a real Qdrant: make test-qdrant URL=http://localhost:6333
	@test -n "$(URL)" || { echo "URL=http://host:6333 is missing" >&2; exit 2; }
	MIRAGE_TEST_QDRANT_URL=$(URL) $(BIN)/python -m pytest tests/contract/test_retriever_engines.py -k server $(ARGS)

test-durability: setup-dev ## Kill the retriever 20 times while 5,000 records are written
	$(BIN)/python -m pytest tests/faults --full $(ARGS)

compose-up: ## Build the images and start everything in containers (needs a Docker engine with compose)
	docker compose -f deploy/docker-compose.yml up -d --build

compose-down: ## Stop the containers; the volumes stay
	docker compose -f deploy/docker-compose.yml down

compose-test: setup-dev ## Build the images, use and break the system in containers, take it down
	MIRAGE_COMPOSE_TEST=1 $(BIN)/python -m pytest tests/compose $(ARGS)

test-engines: ## Run the page's main journeys in Chromium, Firefox and WebKit: URL= of a MIRAGE that runs, ENGINES=
	cd tests/engines && npm ci --silent && ./run.sh $(or $(URL),http://127.0.0.1:$(PORT)) $(ENGINES)

mini-bundle: setup-build ## Build the mini models' bundles from their checkpoints
	$(BIN_BUILD)/python -m mirage_models.build mini-clip --out models/mini/clip/bundle --replace \
		--calibration atlas/mirage_atlas/demo/data --calibration-items 256
	$(BIN_BUILD)/python -m mirage_training.mini_clip.gate write --gate models/mini/clip/gate.json --bundle models/mini/clip/bundle
	$(BIN_BUILD)/python -m mirage_models.build mini-lm --out models/mini/lm/bundle --replace \
		--calibration atlas/mirage_atlas/demo/data
	$(BIN_BUILD)/python -m mirage_models.build mini-generator --out models/mini/generator/bundle --replace

clean: ## Remove environments and caches
	rm -rf $(VENV) $(VENV_BUILD) $(VENV_EXPORT) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache reports

# The types follow the models that are served, so they are generated each time.
.PHONY: $(PAGE)/generated/api.d.ts
$(PAGE)/generated/api.d.ts: setup-dev $(PAGE)/node_modules/.package-lock.json
	mkdir -p $(@D)
	$(BIN)/python tools/page_schemas.py > $(@D)/openapi.json
	cd $(PAGE) && npm run --silent types >/dev/null

$(PAGE)/node_modules/.package-lock.json: $(PAGE)/package-lock.json
	@command -v npm >/dev/null || { echo "the page is built with Node 20 and npm; neither is needed to use it" >&2; exit 2; }
	cd $(PAGE) && npm ci --silent --no-audit --no-fund
	@touch $@

$(VENV)/.bootstrap: requirements/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MIRAGE needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(VENV)/.runtime: $(VENV)/.bootstrap requirements/runtime.txt $(PROJECTS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/runtime.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt training/pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(TRAINING)
	@touch $@

# torch by pip, because a machine may keep its large files at hand for pip; all the rest by uv. --no-deps: the lock is whole, and
# the hash check would ask for torch again.
$(VENV_BUILD)/.build: requirements/bootstrap.txt requirements/torch.txt requirements/build.txt $(PROJECTS) training/pyproject.toml
	$(PYTHON) -m venv $(VENV_BUILD)
	$(BIN_BUILD)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN_BUILD)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/torch.txt
	$(BIN_BUILD)/uv pip install --quiet --python $(BIN_BUILD)/python --no-deps --require-hashes -r requirements/build.txt
	$(BIN_BUILD)/uv pip install --quiet --python $(BIN_BUILD)/python --no-deps --no-build-isolation $(EDITABLE) $(TRAINING)
	@touch $@

$(VENV_EXPORT)/.export: requirements/bootstrap.txt requirements/torch.txt requirements/reader-build.txt
	$(PYTHON) -m venv $(VENV_EXPORT)
	$(BIN_EXPORT)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN_EXPORT)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/torch.txt
	$(BIN_EXPORT)/uv pip install --quiet --python $(BIN_EXPORT)/python --no-deps --require-hashes -r requirements/reader-build.txt
	@touch $@
