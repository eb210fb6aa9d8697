# Needs a Rust toolchain, Python 3 with pip, and the package registries. `make help` lists the targets.

CARGO ?= cargo
PYTHON ?= python3
# What ONNX Runtime is fetched for. The other takes its place.
DEVICE ?= cpu

.DEFAULT_GOAL := help
.PHONY: help setup clients interface build demo test fuzz bench load fmt lint clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## fetch the pinned ONNX Runtime into .onnxruntime/, once; DEVICE=cuda for NVIDIA graphics cards
	@$(PYTHON) .ci/setup-onnxruntime $(DEVICE)

clients: ## fetch the gRPC clients that the tests use into .venv/, once
	@$(PYTHON) .ci/setup-clients

interface: clients ## record the API that clients are promised, once something was added to it
	.venv/bin/buf build --exclude-source-info --output tests/clients/interface.binpb

build: setup ## build target/release/transferscore
	$(CARGO) build --locked --release

demo: build ## rank the bundled models and compare tasks through a server of their own, print tables, write reports
	$(or $(CARGO_TARGET_DIR),target)/release/transferscore demo

test: setup clients ## run every test; FEATURES=opentelemetry for those of traces too
	$(CARGO) test --locked $(FEATURES:%=--features %)

# Seconds for each target, and which.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FOLDER = $(or $(CARGO_TARGET_DIR),fuzz/target)
# What libFuzzer is steered by: which edges are passed, and what is compared with what. Stable Rust can do it.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## look for files and requests that break a parser; FUZZ_SECONDS=300, FUZZ_TARGETS="npz zip"
	RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --locked --release --manifest-path fuzz/Cargo.toml \
		--target $(FUZZ_HOST) --target-dir $(FUZZ_FOLDER) $(FUZZ_TARGETS:%=--bin %)
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/found/$$target fuzz/artifacts/$$target; \
		echo "== $$target"; \
		TMPDIR=$(firstword $(wildcard /dev/shm) /tmp) $(FUZZ_FOLDER)/$(FUZZ_HOST)/release/$$target \
			-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
			-artifact_prefix=fuzz/artifacts/$$target/ fuzz/found/$$target fuzz/corpus/$$target; \
	done

# What the benchmark compares with is large, so it lies outside the tree and stays there.
BENCH_VENV ?= $(HOME)/.cache/transferscore/bench
BENCH ?= gradient

bench: build ## compare with peers; BENCH=gradient, attacks, ranking or fine_tune, BENCH_ARGUMENTS="...", BENCH_VENV=FOLDER
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --requirement benches/peers/requirements.txt
	$(BENCH_VENV)/bin/python benches/peers/$(BENCH).py \
		--transferscore $(abspath $(or $(CARGO_TARGET_DIR),target))/release/transferscore $(BENCH_ARGUMENTS)

load: setup ## have many clients call a server at once, and time what the service adds; LOAD_ARGUMENTS="--clients 64 --seconds 600"
	$(CARGO) bench --locked --bench load -- $(LOAD_ARGUMENTS)

fmt: ## format the sources
	$(CARGO) fmt

lint: ## check the format, clippy and the documentation, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	@# The lock file of the fuzz targets follows ours.
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib

clean: ## remove what was built and fetched
	rm -rf $(or $(CARGO_TARGET_DIR),target) fuzz/target .onnxruntime .venv
