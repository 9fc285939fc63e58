# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
BIN := .venv/bin
DOCS ?=
# Tests of a file stay together: they share what takes long to start. The shortest come last. `make test BESIDE=` runs one after the other.
BESIDE := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# Compiled modules are kept: without them each process compiles the heavy libraries again (3 s of CPU for mlflow alone).
export PYTHONDONTWRITEBYTECODE :=
export HF_HUB_OFFLINE := 1
export DO_NOT_TRACK := 1

# Each folder of tests/cluster with a go.mod is a program, built once on a machine, outside the checkout: another module is another folder.
GO_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/affinage/cluster
go_program = $(GO_CACHE)/$(1)-$(shell cat $(sort $(wildcard tests/cluster/$(1)/go.* tests/cluster/$(1)/*.go)) | sha256sum | cut -c1-16)/$(2)
KUBERNETES := $(call go_program,bin,kubernetes)
PAUSE := $(call go_program,pause,pause)
WEAVIATE := $(call go_program,weaviate,weaviate-server)
GO_PROGRAMS := $(KUBERNETES) $(PAUSE) $(WEAVIATE)
ROOTFS := $(GO_CACHE)/rootfs-$(shell sha256sum tests/cluster/rootfs.txt | cut -c1-16)/rootfs.tar

.PHONY: help setup browser ocr check test cluster-bin cluster-packages cluster-images images test-cluster test-played test-node test-vllm \
	bench-index soak demo lock clean

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

ocr: ## Install Debian's Tesseract with French and English, for scanned pages, where this machine allows it.
	@if ! command -v tesseract > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
			tesseract-ocr tesseract-ocr-fra tesseract-ocr-eng > /dev/null; \
	fi

check: setup ## Style, types, the direction of imports, the chart's lint, and Terraform's format and validity where Terraform is.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.charts.check
	$(BIN)/python -m tests.infra.check

test: setup browser ocr ## All tests but those of `test-cluster` and `test-vllm`.
	$(BIN)/pytest -m "not cluster and not vllm" $(BESIDE)

cluster-bin: $(GO_PROGRAMS) cluster-packages ## Build the servers of the cluster's tests from pinned Go modules; install the rest where this machine allows it.

cluster-packages:
	@if command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] && ! (for one in promtool containerd nft buildah skopeo; do command -v $$one || exit 1; done) > /dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
			prometheus containerd runc containernetworking-plugins nftables iproute2 procps buildah skopeo > /dev/null; \
	fi
	@if command -v apt-get > /dev/null && [ ! -e $(ROOTFS) ]; then $(MAKE) --no-print-directory $(ROOTFS); fi

# The files of an image with Python, from Debian's packages.
$(ROOTFS):
	rm -rf $(@D).part && mkdir -p $(@D).part/packages $(@D)
	cd $(@D).part/packages && apt-get -qq -o APT::Sandbox::User=root download $$(cat $(CURDIR)/tests/cluster/rootfs.txt)
	for package in $(@D).part/packages/*.deb; do dpkg-deb --extract $$package $(@D).part/root; done
	tar --sort=name --owner=0 --group=0 --numeric-owner --exclude=./usr/share/doc --exclude=./usr/share/man -cf $@.part -C $(@D).part/root .
	rm -r $(@D).part
	mv $@.part $@

# Go compiles anew for another CGO_ENABLED or -trimpath: all programs use the same. GOGC spares a tenth of the compiler's time.
$(GO_PROGRAMS):
	@command -v go > /dev/null || { \
		echo "Go $$(sed -n 's/^go //p' tests/cluster/$(MODULE)/go.mod) or later is needed to build $(@F)." >&2; exit 1; }
	mkdir -p $(@D)
	cd tests/cluster/$(MODULE) && GOGC=400 CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $(LINK)" -o $@.part $(PACKAGE)
	$(foreach server,$(SERVERS),ln -sf $(@F) $(@D)/$(server);)
	mv $@.part $@

$(KUBERNETES): MODULE := bin
$(KUBERNETES): PACKAGE := .
$(KUBERNETES): SERVERS := etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns kwok
# Without a version, Helm and the kubelet see v0.0.0.
KUBERNETES_VERSION := $(shell sed -n 's/^\tk8s.io\/kubernetes //p' tests/cluster/bin/go.mod)
$(KUBERNETES): LINK := -X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES_VERSION)))
$(PAUSE): MODULE := pause
$(PAUSE): PACKAGE := .
$(WEAVIATE): MODULE := weaviate
$(WEAVIATE): PACKAGE := github.com/weaviate/weaviate/cmd/weaviate-server

# Building images is reading and writing for the most part: it goes beside the compiler.
cluster-images: setup cluster-packages
	@if command -v buildah > /dev/null; then $(BIN)/python -m tests.cluster.images; fi

# Servers and pods are waited for more than they compute: the tests on played nodes and those on the real one run side by side.
empty :=
test-cluster cluster-images: export CLUSTER_BIN := $(subst $(empty) ,:,$(dir $(GO_PROGRAMS) $(ROOTFS)))
test-cluster: setup ## What needs the servers of a cluster; as root also what needs a real node.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target cluster-images cluster-bin
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-node test-played

test-played:
	$(BIN)/pytest -m "cluster and not node" $(BESIDE)

# Not captured: these tests print the figures of docs/how-to/install.md.
test-node:
	tests/cluster/node.sh $(BIN)/pytest -m node --capture=no

# An environment of its own, made once for each lock, outside the checkout.
VLLM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/affinage/vllm-$(shell sha256sum requirements/vllm.txt | cut -c1-16)
test-vllm: export VLLM_PYTHON := $(VLLM)/bin/python
test-vllm: setup $(VLLM)/.installed ## What needs a real vLLM (6 GB on disk), on processors.
	$(BIN)/pytest -m vllm

$(VLLM)/.installed:
	rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --require-hashes -r requirements/vllm.txt
	touch $@

# The peers of the index benchmark, each in an environment of its own, made once for each lock, outside the checkout.
peer = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/affinage/bench-$(1)-$(shell sha256sum requirements/bench-$(1).txt | cut -c1-16)
PEERS := langchain llamaindex cocoindex
PEER_FOLDERS := $(foreach name,$(PEERS),$(call peer,$(name)))
LARGE ?=
JSON ?=
bench-index: setup $(addsuffix /.installed,$(PEER_FOLDERS)) ## The index against its peers; LARGE=1 also 50,000 documents, JSON=file keeps the figures.
	PYTHONPATH=platform:. $(BIN)/python -m tests.benchmarks.index $(foreach name,$(PEERS),--peer $(name)=$(call peer,$(name))/bin/python) \
		$(if $(LARGE),--large) $(if $(JSON),--json "$(JSON)")

$(addsuffix /.installed,$(PEER_FOLDERS)):
	rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --require-hashes -r requirements/$(patsubst %-$(lastword $(subst -, ,$(notdir $(@D)))),%,$(notdir $(@D))).txt
	touch $@

# What is random in the proofs of the index repeats ten times as often; the same SEED draws the same lives and the same moments to kill at.
SEED ?=
soak: SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
soak: export CLUSTER_BIN := $(dir $(WEAVIATE))
soak: setup $(WEAVIATE) ## The proofs of the index at full counts: 200 random kills a store, 100,000 steps of a folder's life; SEED=n repeats one.
	@echo "The seed is $(SEED). Again: make soak SEED=$(SEED)"
	$(BIN)/pytest --soak --seed=$(SEED) --hypothesis-seed=$(SEED) --timeout=7200 $(BESIDE) \
		tests/unit/index/test_index_machine.py tests/integration/test_index_machine.py tests/integration/test_index_stores.py

images: ## Build the container images with buildah; services/README.md says how without the Internet.
	services/build.sh

demo: setup ## The whole loop on this machine; DOCS=folder runs it on your own documents.
	$(BIN)/affinage demo $(if $(DOCS),--docs "$(DOCS)")

# Lock files hold hashes and no addresses, so that any mirror serves them.
COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" pyproject.toml
lock: ## Resolve the dependencies again.
	echo uv | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements/uv.txt -
	$(COMPILE) --extra gateway --extra index --extra weaviate --override requirements/overrides-no-torch.txt -o requirements/gateway.txt
	$(COMPILE) --extra index --extra weaviate --extra registry --extra flows --extra gateway --override requirements/overrides-no-torch.txt -o requirements/flows.txt
	$(COMPILE) --extra index --extra services --override requirements/overrides-no-torch.txt -o requirements/embedder.txt
	$(COMPILE) --extra index --extra services --extra tuning --override requirements/overrides.txt -o requirements/generator.txt
	$(COMPILE) --extra index --extra weaviate --extra registry --extra flows --extra gateway --extra tuning --override requirements/overrides.txt -o requirements/worker.txt
	$(COMPILE) --all-extras --override requirements/overrides.txt -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" requirements/vllm.in --override requirements/overrides-vllm.txt -o requirements/vllm.txt
	for peer in $(PEERS); do \
		$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" requirements/bench-$$peer.in -o requirements/bench-$$peer.txt; \
	done
	@! grep -nE 'https?://' requirements/*.txt

clean: ## Remove what the demo and the tests left in the checkout; keeps .venv.
	rm -rf .affinage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
