# The verbs of this repository. `make help` lists them; CONTRIBUTING.md says when to use which.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Outside the tree, so that every checkout shares one cache of the dependencies.
CARGO_TARGET_DIR ?= $(HOME)/.cache/tertulia/target
export CARGO_TARGET_DIR

# `make run PROFILE=release` builds the optimised binary. The default is ready sooner and shares what it builds
# with the tests; its hashing and storage engines are optimised all the same.
PROFILE ?= dev
TERTULIA := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/tertulia

# `make run DATA=/srv/tertulia LISTEN=0.0.0.0:8080`; both have defaults in the binary.
DATA ?=
LISTEN ?=
# What else `tertulia serve` or the tests are told: `make run ARGS='--set log.format=json'`,
# `make test-rust ARGS='-p tertulia-store'`.
ARGS ?=

# How long each fuzz target runs.
FUZZ_SECONDS ?= 20

# `make faults` injects every fault once; `make faults LONG=1` more of each, again and again for FAULTS_MINUTES.
# `make faults ARGS='--seed 7 --only F22'` injects one again.
LONG ?=
FAULTS_MINUTES ?= 120

# Which seeds are simulated. Optimised code runs many more in the same time, and takes longer to be built.
SEED ?= 0
SEEDS ?= 10000
SIMULATION_PROFILE ?= dev

BUF := web/node_modules/.bin/buf
WEB_SOURCES := $(shell find web/src web/public web/scripts proto -type f -not -path 'web/src/gen/*' 2>/dev/null) \
               $(wildcard web/*.json web/*.html web/*.yaml web/*.ts web/*.js)

##@ Every day

help: ## Lists the verbs
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

run: build ## Starts a server with everything in it, and prints its address
	@exec "$(TERTULIA)" serve $(if $(DATA),--data "$(DATA)") $(if $(LISTEN),--listen "$(LISTEN)") $(ARGS)

cluster: web ## Starts three nodes with PostgreSQL, NATS and Redis of their own; SPLIT=nats or http2 for a service apart
	@cargo build --quiet -p tertulia-server --bin tertulia
	@cargo run --quiet -p tertulia-tests --bin cluster -- $(if $(SPLIT),--split $(SPLIT)) $(ARGS)

test: test-rust test-cluster test-web test-e2e ## Runs all tests: Rust, two nodes, web client, two browsers

check: fmt-check lint contract docs-check web-check deny ## Everything a change must pass besides the tests

fmt: ## Formats the Rust code
	cargo fmt --all

docs: ## Writes anew the pages that are generated
	TERTULIA_REFRESH=1 cargo test --quiet -p tertulia-tests --test laws
	TERTULIA_REFRESH=1 cargo test --quiet -p tertulia-services --lib the_guide_shows

bench: web ## Prints what it costs: messages, connections, start, size
	@scripts/bench.sh $(ARGS)

bench-peers: ## Compares with NATS, Socket.IO, ejabberd and a bare relay, side by side; ARGS=--help
	@scripts/bench-peers.sh $(ARGS)

bench-cluster: web ## Compares the embedded store, PostgreSQL, and two nodes on it; ARGS=--help
	@scripts/bench-cluster.sh $(ARGS)

faults: web ## Injects every fault into a real server while real clients talk; LONG=1 for hours
	@scripts/faults.sh $(if $(LONG),--long $(FAULTS_MINUTES)) $(ARGS)

fuzz: ## Runs every fuzz target for FUZZ_SECONDS (20)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

simulate: ## Runs SEEDS (10000) seeds of the simulation, from SEED (0) on
	cargo run --profile $(SIMULATION_PROFILE) -p tertulia-tests --bin simulate -- --seeds $(SEED)..$$(($(SEED) + $(SEEDS)))

clean: ## Removes what was built; data folders stay
	cargo clean
	rm -rf web/dist web/src/gen web/node_modules fuzz/target fuzz/artifacts

##@ Parts of them

build: web ## Builds the binary, with the web client in it
	cargo build $(if $(filter dev,$(PROFILE)),,--profile $(PROFILE)) -p tertulia-server --bin tertulia

web: web/dist/index.html ## Builds the web client, when its sources changed

test-rust: web ## Rust tests: rules, adapters, transports, whole system, laws
	@scripts/test-rust.sh $(ARGS)

test-cluster: web ## The whole-system tests once more, on two nodes with PostgreSQL, NATS and Redis
	@scripts/test-cluster.sh $(ARGS)

test-web: web/node_modules/.package-lock.json ## Web client: state, live connection, outbox
	npm --prefix web run test

test-e2e: build web/node_modules/.package-lock.json ## Two browsers talk while the server is killed
	@chromium="$$(scripts/chromium.sh)"; \
	CHROMIUM="$$chromium" TERTULIA_BIN="$(TERTULIA)" npm --prefix web run e2e

fmt-check: ## Formatting
	cargo fmt --all --check

lint: ## Clippy; a warning is an error
	cargo clippy --workspace --all-targets --all-features -- -D warnings

contract: web/node_modules/.package-lock.json ## The .proto files: lint, and nothing broken since the last release
	$(BUF) lint
	@scripts/breaking.sh "$(BUF)"

docs-check: ## The laws of the house, and pages that agree with the code
	cargo test --quiet -p tertulia-tests --test laws

web-check: web/node_modules/.package-lock.json ## Types of the web client
	npm --prefix web run check

deny: ## Licences, advisories and banned crates, when cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then cargo deny --all-features check; \
	else echo "deny: cargo-deny is not installed, so licences and advisories are not checked (cargo install cargo-deny)"; fi

##@

web/node_modules/.package-lock.json: web/package-lock.json
	@scripts/node.sh
	npm --prefix web ci --no-audit --no-fund
	@touch $@

web/dist/index.html: $(WEB_SOURCES) web/node_modules/.package-lock.json
	npm --prefix web run build
	@touch $@

.PHONY: help run cluster test check fmt docs bench bench-peers bench-cluster faults fuzz simulate clean build web test-rust test-cluster test-web test-e2e fmt-check \
        lint \
        contract docs-check web-check deny
