# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
BIN := .venv/bin
DOCS ?=
# Compiled modules are kept: without them each process compiles the heavy libraries again (3 s of CPU for mlflow alone).
export PYTHONDONTWRITEBYTECODE :=
export HF_HUB_OFFLINE := 1
export DO_NOT_TRACK := 1

# Built once on a machine, outside the checkout; another module or flag is another folder.
GO_CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/affinage/cluster
WEAVIATE := $(GO_CACHE)/weaviate-$(shell cat tests/cluster/weaviate/go.mod tests/cluster/weaviate/go.sum | sha256sum | cut -c1-16)

.PHONY: help setup browser check test cluster-bin test-cluster demo lock clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## Create .venv with everything, hash-checked.

.venv/.installed: pyproject.toml requirements/uv.txt requirements/dev.txt
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 or later is needed; name it with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

browser: ## Install Debian's Chromium for the browser tests, where this machine allows it.
	@if ! command -v chromium > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium > /dev/null; \
	fi

check: setup ## Style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup browser ## All tests but those of `test-cluster`.
	$(BIN)/pytest -m "not cluster"

cluster-bin: $(WEAVIATE)/weaviate-server ## Build the servers of the cluster's tests from pinned Go modules.

$(WEAVIATE)/weaviate-server:
	@command -v go > /dev/null || { echo "Go 1.24 or later is needed to build Weaviate." >&2; exit 1; }
	mkdir -p $(@D)
	cd tests/cluster/weaviate && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $@.part github.com/weaviate/weaviate/cmd/weaviate-server
	mv $@.part $@

test-cluster: setup cluster-bin ## What needs the servers of a cluster.
	AFFINAGE_CLUSTER_BIN=$(WEAVIATE) $(BIN)/pytest -m cluster

demo: setup ## The whole loop on this machine; DOCS=folder runs it on your own documents.
	$(BIN)/affinage demo $(if $(DOCS),--docs "$(DOCS)")

# Lock files hold hashes and no addresses, so that any mirror serves them.
COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" pyproject.toml
lock: ## Resolve the dependencies again.
	echo uv | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements/uv.txt -
	$(COMPILE) --extra gateway --extra index --override requirements/overrides-no-torch.txt -o requirements/gateway.txt
	$(COMPILE) --extra index --extra registry --extra flows --override requirements/overrides-no-torch.txt -o requirements/flows.txt
	$(COMPILE) --extra index --extra registry --extra tuning --override requirements/overrides.txt -o requirements/tuning.txt
	$(COMPILE) --all-extras --override requirements/overrides.txt -o requirements/dev.txt
	@! grep -nE 'https?://' requirements/*.txt

clean: ## Remove what the demo and the tests left in the checkout; keeps .venv.
	rm -rf .affinage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
