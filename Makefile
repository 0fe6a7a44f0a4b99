# Everything here needs Rust and Go and nothing else; `make help` lists the targets.

SHELL := /bin/sh
# A fresh machine's shell may not know the usual places yet.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
found = $(shell export PATH="$(PATH)"; command -v $(1))
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop test lint bench fuzz soak generate clean rust go

help: ## This list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: rust go ## A Multigres cluster on a control plane of this machine, and how to look at it
	@tests/control-plane/build.sh >/dev/null
	cargo build --release --locked --package multigres-operator --package demo --package standin
	@$(TARGET)/release/demo up

demo-stop: ## Stop the demo and remove what it left
	@if [ -x $(TARGET)/release/demo ]; then $(TARGET)/release/demo down; else echo "no demo was built here"; fi

test: rust go ## All tests, those on a real control plane included
	@echo "1/3 control plane"
	@tests/control-plane/build.sh >/dev/null
	@echo "2/3 operator"
	cargo build --locked
	@echo "3/3 tests"
	cargo test --workspace --locked

lint: rust ## Formatting, clippy, dependency policy, drift of generated files
	@echo "1/4 formatting"
	cargo fmt --all --check
	@echo "2/4 clippy"
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@echo "3/4 dependencies"
	@scripts/deny
	@echo "4/4 custom resource definitions"
	@scripts/crd-drift

bench: rust go ## Measure pure code and fleets with and without a data plane; figures in target/bench.json (SCALE_QUICK=1: a small round)
	@tests/control-plane/build.sh >/dev/null
	@rm -rf $(TARGET)/bench && mkdir -p $(TARGET)/bench
	BENCH_FIGURES=$(abspath $(TARGET))/bench cargo bench --locked --package crds --bench resolve
	BENCH_FIGURES=$(abspath $(TARGET))/bench cargo bench --locked --package actors --bench render
	cargo build --profile dist --locked --package multigres-operator
	cargo build --release --locked --package demo --package scale
	MULTIGRES_OPERATOR_BINARY=$(abspath $(TARGET))/dist/multigres-operator $(TARGET)/release/scale

fuzz: rust ## Ten minutes of mutated input for each parser (FUZZ_SECONDS, FUZZ_SEED, FUZZ_KEEP=1 to grow crds/fuzz/corpus)
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) cargo test --release --locked --package crds --test fuzz -- --nocapture --test-threads=1
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) cargo test --release --locked --package actors --test topology fuzz -- --nocapture

soak: rust go ## Chance for longer: 100,000 cases of each property, 10,000 random clusters on a control plane (SOAK_CASES, SOAK_CLUSTERS, SEED)
	MULTIGRES_CASES=$(or $(SOAK_CASES),100000) ACTORS_CASES=$(or $(SOAK_CASES),100000) PROPTEST_CASES=$(or $(SOAK_CASES),100000) cargo test --release --locked --package crds --test laws --package actors --test properties --test topology
	@tests/control-plane/build.sh >/dev/null
	MULTIGRES_CASES=$(or $(SOAK_CLUSTERS),10000) cargo test --locked --package cluster random_clusters -- --nocapture

generate: rust ## Write the custom resource definitions of the chart from the types
	cargo run --locked --package crds --features schema --bin generate

clean: demo-stop ## Remove what builds left in this folder (the cache folder stays)
	rm -rf $(TARGET) .demo

# One line each: `$(error)` stops make without a second message.
rust:
	$(if $(call found,cargo),,$(error Rust is missing: install it with rustup, https://rustup.rs))
	$(if $(call found,cc),,$(error A C compiler is missing: install gcc (Debian: apt-get install gcc libc6-dev)))
	@:

go:
	$(if $(call found,go),,$(error Go is missing: install Go 1.26 or newer, https://go.dev/dl))
	@:
