# make demo      the main job on real data, in C, Python and Rust
# make test      every test of every language, formatting and lints; installs what it needs where it can
# make torture   the long versions: kill loops, sanitizers, fuzzing, licences, thousands of cases
# make report    one page that shows a library: LIBRARY=skills.db STATS=stats.json OUT=report.html, or a sample
# make bench     figures, beside peers in the same run
# make header    writes what is generated: include/skillcache.h, docs/CONFIGURATION.md
# make install   header, libraries, pkg-config and CMake files into PREFIX (/usr/local), below DESTDIR

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
CXX ?= c++
CARGO ?= cargo
PYTHON ?= python3
INSTALL ?= install
FUZZ_SECONDS ?= 120
STRESS_ROUNDS ?= 500
# What the benchmarks hold injection against.
PEERS := astor==0.8.1 diskcache==5.6.3 libcst==1.8.6 papermill==2.6.0

UNDER_DRD := target."cfg(all())".runner = ["valgrind", "--tool=drd", "--quiet", "--report-signal-unlocked=no", "--error-exitcode=1"]

BUILD := build
PREFIX_DIR := $(CURDIR)/$(BUILD)/prefix
VENV := $(BUILD)/venv/bin
GO := $(CURDIR)/$(VENV)/go
RELEASE := target/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ABI := $(shell sed -n 's/^pub const SKC_ABI: u32 = \(.*\);/\1/p' src/capi/mod.rs)

.PHONY: all demo test torture bench header install clean prefix library lint lint-rust lint-python test-rust test-python \
	test-races rust-asan fuzz licences bench-peers

all: library

library:
	$(CARGO) build --release --lib --locked

include bindings/tests.mk
include examples/examples.mk

demo: demo-c demo-python demo-rust

test: $(BUILD)/tools
	$(MAKE) lint
	$(MAKE) test-rust
	$(MAKE) prefix
	$(MAKE) test-c test-cpp test-cmake test-asan test-valgrind test-races
	$(MAKE) test-go
	$(MAKE) test-python
	$(MAKE) test-examples
	@echo "make test: everything passed"

lint: lint-rust lint-c lint-go lint-python

lint-rust:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path benches/peers/Cargo.toml
	$(CARGO) clippy --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked --quiet

lint-python:
	$(VENV)/ruff check --quiet bindings/python examples tests/oracle benches fuzz/kept.py
	$(VENV)/ruff format --check --quiet bindings/python examples/*.py tests/oracle benches fuzz/kept.py
	cd bindings/python && $(CURDIR)/$(VENV)/mypy

# Chance that is the same every time: a change is judged by its own merits. Torture draws anew.
test-rust:
	PROPTEST_RNG_SEED=20261124 SHUTTLE_RANDOM_SEED=20261124 $(CARGO) test --locked --quiet

# The second time there is a race, which must be found.
test-races:
	$(CARGO) test --locked --quiet --config '$(UNDER_DRD)' --test races
	{ SKC_RACES_CONTROL=1 $(CARGO) test --locked --quiet --config '$(UNDER_DRD)' --test races 2>&1 || true; } | \
		grep 'Conflicting store' > /dev/null

test-python: | prefix
	cd bindings/python && SKILLCACHE_LIBRARY=$(PREFIX_DIR)/lib/libskillcache.so $(CURDIR)/$(VENV)/python -m pytest -q

torture: $(BUILD)/tools
	PROPTEST_CASES=200000 $(CARGO) test --release --locked --lib
	SKC_INTERLEAVINGS=100000 $(CARGO) test --release --locked --test interleavings
	SKC_KILL_ROUNDS=200 SKC_KILL_PUT_ROUNDS=10000 SKC_KILL_FILL_ROUNDS=500 $(CARGO) test --release --locked --test kill
	SKC_POWER_LIVES=3000 SKC_FAULT_STRIDE=1 $(CARGO) test --release --locked --test power_loss
	SKC_PROCESS_OPERATIONS=1000000 $(CARGO) test --release --locked --test processes
	SKC_LEAK_ROUNDS=10000 $(CARGO) test --release --locked --test confined
	SKC_STRESS_ROUNDS=$(STRESS_ROUNDS) $(CARGO) test --release --locked --test stress -- --nocapture
	SKC_MONITOR_SECONDS=60 $(CARGO) test --release --locked --test monitoring -- --nocapture
	PROPTEST_CASES=200000 SKC_SOURCES=1 $(CARGO) test --release --locked --test injection --test interpreter_sources
	cd bindings/go && $(GO_ENVIRONMENT) $(GO) test -race -count=10 -timeout 4h ./...
	SKC_RACES=10000 $(MAKE) test-races
	$(MAKE) rust-asan fuzz licences

# The standard library is not instrumented: its sources are not everywhere.
rust-asan:
	RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --locked --target $(shell rustc -vV | sed -n 's/^host: //p') \
		--target-dir target/asan --lib --test runs

fuzz: $(BUILD)/rust-tools/bin/cargo-fuzz
	for target in data source exchange; do \
		$(PYTHON) fuzz/kept.py expand $$target fuzz/corpus/$$target; \
		PATH="$(CURDIR)/$(BUILD)/rust-tools/bin:$$PATH" $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 \
			-dict=fuzz/$$target.dict; \
	done

licences: $(BUILD)/rust-tools/bin/cargo-deny
	PATH="$(CURDIR)/$(BUILD)/rust-tools/bin:$$PATH" $(CARGO) deny --locked check licenses bans sources

$(BUILD)/rust-tools/bin/%:
	$(CARGO) install --locked --quiet --root $(BUILD)/rust-tools $*

bench: $(BUILD)/peers/.ready
	SKC_PEERS_PYTHON=$(CURDIR)/$(BUILD)/peers/bin/python $(CARGO) bench --locked --bench road --bench cached --bench store --bench skills --bench confinement --bench injection --bench vectors
	$(MAKE) bench-peers

# A crate of its own: the other caches and what they need are nobody's to build for a test.
bench-peers:
	cd benches/peers && $(CARGO) clippy --release --all-targets --locked --quiet -- -D warnings && \
		$(CARGO) test --release --locked --quiet && $(CARGO) run --release --locked --quiet

$(BUILD)/peers/.ready: Makefile
	$(PYTHON) -m venv $(BUILD)/peers
	$(BUILD)/peers/bin/pip install --quiet --disable-pip-version-check $(PEERS)
	touch $@

header:
	SKC_BLESS=1 $(CARGO) test --locked --quiet --test header

# What the tests and the demo link against.
prefix:
	@$(MAKE) install PREFIX=$(PREFIX_DIR) DESTDIR=

install: $(BUILD)/libskillcache.a
	$(INSTALL) -d $(addprefix $(DESTDIR)$(PREFIX)/,include lib/pkgconfig lib/cmake/skillcache)
	$(INSTALL) -m 644 include/skillcache.h bindings/cpp/skillcache.hpp $(DESTDIR)$(PREFIX)/include
	$(INSTALL) -m 755 $(RELEASE)/libskillcache.so $(DESTDIR)$(PREFIX)/lib/libskillcache.so.$(VERSION)
	ln -sf libskillcache.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libskillcache.so.$(ABI)
	ln -sf libskillcache.so.$(ABI) $(DESTDIR)$(PREFIX)/lib/libskillcache.so
	$(INSTALL) -m 644 $(BUILD)/libskillcache.a $(DESTDIR)$(PREFIX)/lib
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' bindings/c/skillcache.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/skillcache.pc
	for file in skillcache-config skillcache-config-version; do \
		sed 's|@VERSION@|$(VERSION)|' bindings/c/$$file.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/skillcache/$$file.cmake; \
	done

# Cargo's archive shows every symbol of every dependency, SQLite's among them. This one is a single object with the
# functions of the header as its only global symbols, so that it links beside whatever the host links. The sections
# removed hold compiler intermediates that some binutils stumble over.
$(BUILD)/libskillcache.a: library
	@mkdir -p $(BUILD)
	@if [ ! $@ -nt $(RELEASE)/libskillcache.a ]; then \
		ld -r --gc-sections $$(nm -D --defined-only --format=posix $(RELEASE)/libskillcache.so | awk '{print "-u", $$1}') \
			-o $(BUILD)/skillcache.o $(RELEASE)/libskillcache.a && \
		objcopy --wildcard --keep-global-symbol='skc_*' --strip-debug -R .llvmbc -R .llvmcmd $(BUILD)/skillcache.o && \
		rm -f $@ && ar rcs $@ $(BUILD)/skillcache.o && rm $(BUILD)/skillcache.o; \
	fi

$(BUILD)/tools: .ci/tools
	@mkdir -p $(BUILD)
	.ci/tools

clean:
	rm -rf $(BUILD)
	$(CARGO) clean
