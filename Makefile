# Every target makes what it needs on first use: python3 (3.11 or newer), make and git are all it takes.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# Without bytecode each of the many processes compiles moto and boto3 again: twice the time to its first line.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SAM    := .venv-sam/bin/sam
UV     := $(BIN)/uv
ASL    := requirements/npm/node_modules/.bin/asl-validator
AXE    := requirements/npm/node_modules/axe-core/axe.min.js

# A file's tests share what they need, so they stay together; in the order of folders long ones come first.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

PORT         ?= 4566
FILE         ?=
ARCHITECTURE ?=
RUNTIME      ?=
NAME         ?=
CI           ?=
PYTEST_ARGS  ?=
SMOKE_ARGS   ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/run.stamp ## build two example layers on the embedded AWS [FILE=… ARCHITECTURE=… RUNTIME=…]
	@$(BIN)/python -m local demo $(if $(FILE),--file '$(FILE)') $(if $(ARCHITECTURE),--architecture '$(ARCHITECTURE)') $(if $(RUNTIME),--runtime '$(RUNTIME)')

.PHONY: up
up: $(VENV)/run.stamp ## serve the embedded AWS until Ctrl-C [PORT=4566]
	@$(BIN)/python -m local up --port '$(PORT)'

.PHONY: test
test: $(VENV)/dev.stamp ## unit, integration and end-to-end tests, of large sets a sample [PYTEST_ARGS=…]
	@$(PYTEST) -m 'not long' $(PYTEST_ARGS)

.PHONY: test-all
test-all: $(VENV)/dev.stamp .venv-ministack/ministack.stamp $(AXE) ## every test, as CI runs them [PYTEST_ARGS=…]
	@$(PYTEST) $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp .venv-sam/sam.stamp .venv-checkov/checkov.stamp $(ASL) ## every static check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=container:functions:client:infra:. $(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/hadolint container/Dockerfile
	$(BIN)/cfn-lint template.yaml infra/*.yaml
	for template in template.yaml infra/*.yaml; do SAM_CLI_TELEMETRY=0 $(SAM) validate --lint --region us-east-1 --template "$$template"; done
	.venv-checkov/bin/checkov --quiet --compact --skip-download --file template.yaml infra/*.yaml container/Dockerfile
	rm -rf .cache/translated
	$(BIN)/python -m local translate .cache/translated
	$(BIN)/cfn-lint .cache/translated/*.json --ignore-templates .cache/translated/build_layers.asl.json
	PATH="$(CURDIR)/.venv-node/bin:$$PATH" node --check functions/layerdrop/catalogue/page.js
	PATH="$(CURDIR)/.venv-node/bin:$$PATH" $(ASL) --json-path .cache/translated/build_layers.asl.json

.PHONY: bench
bench: $(VENV)/dev.stamp ## side by side with what people use today, as tables
	@$(BIN)/python -m benchmarks

.PHONY: build
build: .venv-sam/sam.stamp $(VENV)/run.stamp ## what make deploy ships, in .aws-sam/build
	PATH="$(CURDIR)/$(BIN):$$PATH" UV_EXCLUDE="$(CURDIR)/functions/provided.txt" $(SAM) build

.PHONY: deploy
deploy: build ## build and deploy the stack to your AWS account (asks the first time; never with CI=true)
	@arguments="$$(PYTHONPATH=infra $(BIN)/python -m stack preflight $(if $(filter-out false 0,$(CI)),--ci))"; \
	PATH="$(CURDIR)/$(BIN):$$PATH" $(SAM) deploy $$arguments
	@PYTHONPATH=infra $(BIN)/python -m stack protect

.PHONY: delete
delete: $(VENV)/run.stamp ## delete the stack; says what goes and what stays, and asks
	@PYTHONPATH=infra $(BIN)/python -m stack delete

.PHONY: release
release: $(VENV)/run.stamp ## make a layer's name free for another requirements file NAME=…
	@$(if $(NAME),,echo 'Say which layer is meant: make release NAME=web-py313-arm64' >&2; exit 2;) PYTHONPATH=infra $(BIN)/python -m stack release '$(NAME)'

.PHONY: smoke
smoke: build ## try it whole in your AWS account: deploy, build, import, measure, delete (asks first) [SMOKE_ARGS=…]
	@PYTHONPATH=infra $(BIN)/python -m smoke $(SMOKE_ARGS)

.PHONY: lock
lock: $(VENV)/uv.stamp ## renew the hashed requirements files
	@compile() { UV_CUSTOM_COMPILE_COMMAND='make lock' $(UV) pip compile --quiet --no-config --upgrade --universal --generate-hashes --no-emit-index-url "$$@"; }; \
	compile --python-version 3.11 requirements/run.in -o requirements/run.txt; \
	compile --python-version 3.11 requirements/dev.in -o requirements/dev.txt; \
	compile --python-version 3.11 requirements/sam.in -o requirements/sam.txt; \
	compile --python-version 3.11 requirements/checkov.in -o requirements/checkov.txt; \
	compile --python-version 3.11 requirements/ministack.in -o requirements/ministack.txt; \
	compile --python-version 3.11 requirements/node.in -o requirements/node.txt; \
	compile --python-version 3.11 -c requirements/run.txt client/requirements.in -o client/requirements.txt; \
	compile --python-version 3.11 -c requirements/run.txt requirements/uv.in -o requirements/uv.txt; \
	compile --python-version 3.13 -c requirements/run.txt functions/requirements.in -o functions/requirements.txt; \
	compile --python-version 3.13 -c requirements/run.txt container/requirements.in -o container/requirements.txt

.PHONY: clean
clean: ## remove environments, caches and results
	rm -rf .venv .venv-sam .venv-checkov .venv-ministack .venv-node .cache .aws-sam out requirements/npm/node_modules

$(VENV)/uv.stamp: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Layerdrop needs Python 3.11 or newer; this is %s. Say which one to use: make PYTHON=python3.13 …" % sys.version.split()[0])'
	@echo 'Setting up the Python environment in $(VENV) …'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/run.stamp: $(VENV)/uv.stamp requirements/run.txt container/pyproject.toml client/pyproject.toml
	@$(UV) pip install --quiet --python $(VENV) --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable container --editable client
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo 'Adding what tests and linters need …'
	@$(UV) pip install --quiet --python $(VENV) --require-hashes -r requirements/dev.txt
	@touch $@

.venv-sam/sam.stamp: $(VENV)/uv.stamp requirements/sam.txt
	@echo 'Setting up sam in .venv-sam …'
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-sam
	@$(UV) pip install --quiet --python .venv-sam --require-hashes -r requirements/sam.txt
	@touch $@

# checkov pins boto3 exactly, as sam does.
.venv-checkov/checkov.stamp: $(VENV)/uv.stamp requirements/checkov.txt
	@echo 'Setting up checkov in .venv-checkov …'
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-checkov
	@$(UV) pip install --quiet --python .venv-checkov --require-hashes -r requirements/checkov.txt
	@touch $@

# An emulator by others, which pins botocore exactly.
.venv-ministack/ministack.stamp: $(VENV)/uv.stamp requirements/ministack.txt
	@echo 'Setting up ministack in .venv-ministack …'
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-ministack
	@$(UV) pip install --quiet --python .venv-ministack --require-hashes -r requirements/ministack.txt
	@touch $@

# asl-validator runs on node: the machine's own, else one from a wheel.
NPM := $(shell command -v npm || echo .venv-node/bin/npm)
.venv-node/bin/npm: $(VENV)/uv.stamp requirements/node.txt
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-node
	@$(UV) pip install --quiet --python .venv-node --require-hashes -r requirements/node.txt

$(ASL): requirements/npm/package-lock.json $(if $(filter .venv-node/%,$(NPM)),$(NPM))
	@echo 'Setting up asl-validator and axe-core …'
	@$(NPM) ci --prefix requirements/npm --silent --no-audit --no-fund
	@touch $@

# The same call brings it. It checks the catalogue's page in the tests; nothing that is deployed has it (MPL-2.0).
$(AXE): $(ASL)
	@touch $@
