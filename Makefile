# Everything Vigie does, a line or two each. `make help` lists the targets.
PYTHON ?= python3
INVENTORY ?= inventory/embedded
SITE ?= site.yml
SCENARIO ?= cluster
export VIGIE_STATE_DIR ?= $(HOME)/.local/state/vigie
export VIGIE_LAB_DIR ?= $(HOME)/.cache/vigie/lab

# Tests of the contract with Elasticsearch, the OpenTelemetry Collector and Jaeger, as the lab builds them.
SIGNALS := $(wildcard tests/contract/test_log*.py tests/contract/test_trac*.py)

BIN := $(VIGIE_STATE_DIR)/venv/bin
PLAY := $(BIN)/ansible-playbook -i $(INVENTORY) $(ARGS)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections:$(VIGIE_STATE_DIR)/collections
# Ansible keeps its own files (caches, temporary modules) in the state directory too.
export ANSIBLE_HOME := $(VIGIE_STATE_DIR)/ansible
export ANSIBLE_REMOTE_TEMP := $(VIGIE_STATE_DIR)/ansible/tmp
export PATH := $(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo up verify drill down bootstrap bootstrap-dev packages test test-hosts lint bench lab e2e dashboards requirements

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: up drill ## from nothing to a mail that was read back

up: bootstrap ## build the lab and verify it (again: change only what differs)
	$(PLAY) $(SITE)

verify: bootstrap ## ask every part whether it works, change nothing
	$(PLAY) playbooks/verify.yml

drill: bootstrap ## crash the application and follow the failure to the mail
	@before=$$(readlink out/drill/latest); $(PLAY) playbooks/drill.yml; status=$$?; \
	[ "$$(readlink out/drill/latest)" = "$$before" ] || cat out/drill/latest/summary.txt; exit $$status

down: ## stop everything; with PURGE=1 also remove every file
	@if [ -x $(BIN)/ansible-playbook ]; then $(PLAY) playbooks/teardown.yml; else echo "Nothing to stop: $(VIGIE_STATE_DIR) holds no lab."; fi
	@if [ -n "$(PURGE)" ]; then rm -rf "$(VIGIE_STATE_DIR)" out; echo "Removed $(VIGIE_STATE_DIR) and out/."; fi

bootstrap:
	@$(PYTHON) tools/bootstrap.py --state "$(VIGIE_STATE_DIR)"

bootstrap-dev:
	@$(PYTHON) tools/bootstrap.py --state "$(VIGIE_STATE_DIR)" --dev

packages: bootstrap-dev
	@$(BIN)/ansible-playbook -i inventory/embedded tests/unpack.yml

test: bootstrap-dev ## every test: lint, units, contracts, broken links, molecule, sanity
	@tools/test.sh

test-hosts: bootstrap-dev ## the roles of the host on three systemd hosts, as containers of a Docker that is brought and removed
	@tools/hosts.sh $(HOSTS_ARGS)

lint: bootstrap-dev ## ansible-lint, yamllint, ruff, mypy, specs = defaults
	@tools/lint.sh

bench: bootstrap-dev ## measure: restart -> mail, a check against ping, a request of the application
	@$(BIN)/python bench/run.py $(BENCH_ARGS)

lab: bootstrap ## build the bundle of a whole Kubernetes from source (again: go on, or change only what differs)
	@$(BIN)/python lab/build.py --root "$(VIGIE_LAB_DIR)" $(LAB_ARGS)

e2e: lab packages ## a real Kubernetes from that bundle, and the lab on it: built, checked, drilled, stopped, started, removed
	@VIGIE_REQUIRE_LAB=1 $(BIN)/python -m pytest -q tests/charts $(SIGNALS)
	@$(BIN)/molecule test -s $(SCENARIO)

dashboards: bootstrap-dev ## write the dashboards' JSON from dashboards/ (tests compare the two)
	@$(BIN)/python -m dashboards

requirements: ## pin the Python packages again (needs uv)
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header requirements/runtime.in -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -c requirements/runtime.txt app/requirements.in -o app/requirements.txt
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header requirements/dev.in -o requirements/dev.txt
	uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header requirements/lab.in -o requirements/lab.txt
