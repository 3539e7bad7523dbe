# Short names for the scripts, which work without make too.

.PHONY: help setup run test core simulate bench fix

help: ## lists the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## installs what the build needs
	scripts/setup

run: ## builds and runs one broker
	scripts/run

test: ## all tests
	scripts/test

core: ## the rules alone, in seconds, without RocksDB
	cargo test -p millstream-core

simulate: ## replicas under faults, thousands of seeds
	scripts/simulate

bench: ## compares with Apache Kafka, prints the table of docs/BENCHMARKS.md
	bench/compare

fix: ## formats and mends what clippy can
	cargo fmt --all
	cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
