# Everything about Throng in two commands: `make run` starts it, `make test` checks all of it.
# Each step also stands alone; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

ifeq ($(CI),true)
export CARGO_TERM_COLOR := never
endif

VENV := .venv
PYTHON := $(VENV)/bin/python
NODE_TESTS := tests/node
PYTHON_TESTS := tests/python
NODE_MAJOR_MIN := 20
COMPARE_PEERS := benches/compare/peers

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
export THRONG_BIN ?= $(TARGET)/release/throng
export THRONG_ECHO ?= $(TARGET)/release/examples/echo
export THRONG_CONFORMANCE ?= $(TARGET)/release/examples/conformance
export THRONG_EXAMPLES ?= $(TARGET)/release/examples
export THRONG_LOAD ?= $(TARGET)/release/throng-load
export THRONG_SECANTUSD ?= $(abspath $(VENV)/bin/secantusd-py)

COMPARE_PYTHON := $(TARGET)/compare/venv/bin/python

say = @echo "==> $(1)"

.PHONY: help run test million compare setup setup-compare setup-rust setup-python setup-node setup-redis lint build \
        test-rust test-node test-python test-conformance test-million clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-rust ## build the engine and start it on port 5000
	$(call say,starting the engine)
	@cargo run --release -p throng --bin throng

million: setup-rust ## bring up N=1000000 connections on this host, with a table of what they cost
	@cargo build --release -p throng --bin throng -p throng-load
	@load-tests/million.sh $(ARGS)

compare: setup-rust setup-compare ## measure beside socket.io, ws, socketioxide, nchan and a bare epoll server
	$(call say,building the servers and the load)
	@cargo build --release -p throng --bin throng
	@cargo build --release -p throng-load -p throng-benches
	@$(COMPARE_PYTHON) benches/compare/run.py $(ARGS)

setup-compare: $(TARGET)/compare/venv/.ready $(COMPARE_PEERS)/node_modules/.ready
	@test -e /usr/sbin/nginx -a -e /usr/share/nginx/modules-available/mod-nchan.conf || $(call install,nginx libnginx-mod-nchan) || true

$(TARGET)/compare/venv/.ready: benches/compare/requirements.txt
	$(call say,setting up plots in $(TARGET)/compare/venv)
	@python3 -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3 python3-venv)
	@python3 -m venv $(TARGET)/compare/venv
	@$(COMPARE_PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(COMPARE_PEERS)/node_modules/.ready: $(COMPARE_PEERS)/package-lock.json
	$(call say,setting up the peers on Node)
	@command -v npm >/dev/null || $(call install,nodejs npm)
	@npm ci --prefix $(COMPARE_PEERS) --no-audit --no-fund --loglevel=error
	@touch $@

test: setup lint build test-rust test-node test-python test-conformance test-million ## set up, lint, build and run every suite

setup: setup-rust setup-python setup-node setup-redis ## make ready for every suite

setup-rust: ## check for cargo and a C compiler
	$(call say,checking for cargo and a C compiler)
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || $(call install,gcc libc6-dev)
	@command -v cc >/dev/null || { echo "a C compiler is missing: install gcc or clang"; exit 1; }

setup-python: $(VENV)/.ready ## make .venv with what the Python suites use

$(VENV)/.ready: $(PYTHON_TESTS)/requirements.txt
	$(call say,setting up Python in $(VENV))
	@python3 -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3 python3-venv)
	@python3 -c 'import ensurepip, venv' || { echo "python3 with venv is missing"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 3.11 or newer is needed"; exit 1; }
	@python3 -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

setup-redis: ## check for Redis, and for what makes certificates and broken networks
	$(call say,checking for Redis)
	@command -v redis-server >/dev/null && command -v redis-cli >/dev/null || $(call install,redis-server redis-tools)
	@command -v redis-server >/dev/null || { echo "redis-server is missing: install Redis 7"; exit 1; }
	@command -v openssl >/dev/null || $(call install,openssl)
	@command -v openssl >/dev/null || { echo "openssl is missing"; exit 1; }
	@command -v nft >/dev/null && command -v ip >/dev/null || $(call install,nftables iproute2)

setup-node: $(NODE_TESTS)/node_modules/.ready ## install what the Node suite uses

$(NODE_TESTS)/node_modules/.ready: $(NODE_TESTS)/package-lock.json
	$(call say,setting up Node in $(NODE_TESTS))
	@command -v node >/dev/null && command -v npm >/dev/null || $(call install,nodejs npm)
	@command -v node >/dev/null || { echo "node is missing: install Node.js $(NODE_MAJOR_MIN) or newer"; exit 1; }
	@command -v npm >/dev/null || { echo "npm is missing: it comes with Node.js"; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < $(NODE_MAJOR_MIN) ? 1 : 0)' \
	  || { echo "node $$(node --version) is too old: $(NODE_MAJOR_MIN) or newer is needed"; exit 1; }
	@npm ci --prefix $(NODE_TESTS) --no-audit --no-fund --loglevel=error
	@touch $@

lint: setup-rust ## formatting, clippy and documentation, warnings denied
	$(call say,cargo fmt --check)
	@cargo fmt --all --check
	$(call say,cargo clippy)
	@cargo clippy --workspace --all-targets -- -D warnings
	$(call say,cargo doc)
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

build: setup-rust ## the engine, its examples and the load generator, optimised
	$(call say,building the release)
	@cargo build --release -p throng --bins --examples
	@cargo build --release -p throng-load

test-rust: setup-rust setup-python setup-redis ## unit and integration tests of the workspace
	$(call say,cargo test)
	@$(PYTHON) tests/with-mongodb.py cargo test --workspace

test-node: setup-node setup-redis build ## the engine under the stock JavaScript client
	$(call say,Node suite)
	@cd $(NODE_TESTS) && node --test --test-concurrency=1 *.test.mjs

test-python: setup-python setup-redis build ## the engine under the stock Python client and under hostile input
	$(call say,Python suite)
	@$(PYTHON) -m pytest $(PYTHON_TESTS)

test-conformance: setup-python build ## the WebSocket stack under Autobahn's cases
	$(call say,WebSocket conformance)
	@$(PYTHON) tests/conformance/autobahn.py

test-million: build ## 30,000 connections in rooms of 100: nothing lost, memory kept
	$(call say,30000 connections)
	@N=30000 PING_INTERVAL=5s load-tests/million.sh --busy-host

clean: ## remove what was built and installed
	@rm -rf target $(VENV) $(NODE_TESTS)/node_modules $(COMPARE_PEERS)/node_modules

# Installs Debian packages where that is possible without asking anyone; otherwise says what is missing.
define install
{ if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "==> installing $(1)"; apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
  else echo "missing: install $(1) with your package manager"; fi; }
endef
