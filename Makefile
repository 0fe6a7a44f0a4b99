# Everything here needs Rust and Go and nothing else; `make help` lists the targets.

SHELL := /bin/sh
# A fresh machine's shell may not know the usual places yet.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop test lint bench generate clean rust go

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1 \2/p' Makefile | awk '{ name = $$2; $$1 = $$2 = ""; sub(/^ */, ""); printf "  make %-10s %s\n", name, $$0 }'

demo: rust go ## A Multigres cluster on a control plane of this machine, and how to look at it
	@tests/control-plane/build.sh >/dev/null
	cargo build --release --locked --package multigres-operator --package demo
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

bench: rust go ## Measure a fleet of clusters; figures in target/bench.json
	@tests/control-plane/build.sh >/dev/null
	cargo build --release --locked
	cargo run --release --locked --package scale

generate: rust ## Write the custom resource definitions of the chart from the types
	cargo run --locked --package crds --bin generate

clean: demo-stop ## Remove what builds left in this folder (the cache folder stays)
	rm -rf $(TARGET) .demo

rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: install gcc or clang (on Debian: apt-get install gcc libc6-dev)"; exit 1; }

go:
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer, https://go.dev/dl"; exit 1; }
