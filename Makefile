# Needs a Rust toolchain, Python 3 with pip, and the package registries. `make help` lists the targets.

CARGO ?= cargo
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup clients interface build demo test bench fmt lint clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## fetch the pinned ONNX Runtime into .onnxruntime/, once
	@$(PYTHON) .ci/setup-onnxruntime

clients: ## fetch the gRPC clients that the tests use into .venv/, once
	@$(PYTHON) .ci/setup-clients

interface: clients ## record the API that clients are promised, once something was added to it
	.venv/bin/buf build --exclude-source-info --output tests/clients/interface.binpb

build: setup ## build target/release/transferscore
	$(CARGO) build --locked --release

demo: build ## rank the bundled models and compare tasks through a server of their own, print tables, write reports
	$(or $(CARGO_TARGET_DIR),target)/release/transferscore demo

test: setup clients ## run every test
	$(CARGO) test --locked

# What the benchmark compares with is large, so it lies outside the tree and stays there.
BENCH_VENV ?= $(HOME)/.cache/transferscore/bench
BENCH ?= gradient

bench: build ## compare with peers; BENCH=gradient, attacks, ranking or fine_tune, BENCH_ARGUMENTS="...", BENCH_VENV=FOLDER
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --requirement benches/peers/requirements.txt
	$(BENCH_VENV)/bin/python benches/peers/$(BENCH).py \
		--transferscore $(abspath $(or $(CARGO_TARGET_DIR),target))/release/transferscore $(BENCH_ARGUMENTS)

fmt: ## format the sources
	$(CARGO) fmt

lint: ## check the format, clippy and the documentation, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib

clean: ## remove what was built and fetched
	rm -rf $(or $(CARGO_TARGET_DIR),target) .onnxruntime .venv
