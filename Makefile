# What to type. `make run` and `make test` do all set-up and say so.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
PORT ?= 8000
OPS_PORT ?= 9090
# Of a soak.
SECONDS ?= 600
# Fails where an interpreter has no headers to build the native module with.
HEADERS := import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")
PACKAGE := worker-api/python
# What merges the profile of the native module, and whether it is there: see llvm-tools.
MERGER = $(shell rustc --print sysroot)/lib/rustlib/$(shell rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata
PGO = --config-settings pgo=$(shell test -x "$(MERGER)" && echo yes || echo no)
# What a wheel is made of.
PACKAGED := $(shell find supervisor/src worker-api \( -name '*.rs' -o -name '*.py' -o -name '*.toml' \) -not -path '*/tests/*') Cargo.toml Cargo.lock
# The interpreters that the tests of the package run on: all that pyenv has, or the one there is. Those
# that need the native module run on the last one, where it is installed.
PYTHONS := $(or $(wildcard $(HOME)/.pyenv/versions/3.1[0-3].*/bin/python3),$(PYTHON)) $(VENV)/bin/python

.PHONY: help run build python test test-python model check fmt bench bench-shutdown bench-http bench-python bench-python-memory bench-python-restart soak-python clean

help:
	@echo "make run    build, and run the axum example under gracefork (PORT=$(PORT))"
	@echo "make python build the pip package: a wheel with the binary and the native module, for $(PYTHON)"
	@echo "make test   every test: units, simulation, end to end"
	@echo "make model  the baton's hand-over in more orders than the tests try (takes long)"
	@echo "make check  formatting and lints, as CI does"
	@echo "make bench  measure the master, and print a table (3 minutes)"
	@echo "make bench-shutdown  requests lost on SIGTERM and SIGHUP, beside gunicorn and uvicorn (5 minutes)"
	@echo "make bench-http  what a request and a connection cost a worker, beside bare hyper (5 minutes)"
	@echo "make bench-python  Python apps, beside the servers that they run on (27 minutes)"
	@echo "make bench-python-memory  what four workers of a Flask app occupy, beside others (3 minutes)"
	@echo "make bench-python-restart  from a killed worker to its replacement (1 minute)"
	@echo "make soak-python  Python apps in mixed load with clients that leave: leaks (10 minutes; SECONDS=60)"

# The main job: two workers of the axum example, and what to try with them. The shell that prints it
# becomes the master, whose pid it knows.
run: build
	@echo
	@echo "Serving on http://127.0.0.1:$(PORT). Try, in another terminal:"
	@echo "  curl http://127.0.0.1:$(PORT)/health      a worker's own health"
	@echo "  curl http://127.0.0.1:$(OPS_PORT)/status      what the master sees"
	@pid=$$$$; \
	echo "  kill -HUP  $$pid    reload: new workers, nothing lost"; \
	echo "  kill -TERM $$pid    unhealthy for 5 s while it serves on, then out"; \
	echo "Ctrl-C drains at once. Other ports: make run PORT=8001 OPS_PORT=9091"; \
	echo; \
	exec target/release/gracefork -b 127.0.0.1:$(PORT) -w 2 --lameduck 5s --health-listen 127.0.0.1:$(OPS_PORT) target/release/axum-app

build: toolchain
	cargo build --release

python: llvm-tools
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps $(PGO) --wheel-dir target/wheels ./$(PACKAGE)
	@echo "Built; to install it: $(PYTHON) -m pip install $$(ls -t target/wheels/gracefork-*.whl | head -1)"

test: toolchain $(VENV)/ready
	cargo build
	@$(MAKE) --no-print-directory $(VENV)/gracefork test-python
	cargo test

# The package's own tests need nothing but an interpreter.
test-python:
	@for python in $(PYTHONS); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
			$$python $(PACKAGE)/tests/run.py || exit 1; \
		else \
			echo "No Python 3.10 or newer ($$python): the package's unit tests are skipped"; \
		fi; \
	done

model: toolchain
	LOOM_MAX_PREEMPTIONS=4 cargo test -p worker-http --test model
	LOOM_MAX_PREEMPTIONS=3 cargo test -p worker-http --test hosted_model

check: toolchain $(VENV)/ready
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@if $(PYTHON) -c '$(HEADERS)' 2>/dev/null; then \
		cargo clippy -p gracefork-python --all-targets -- -D warnings; \
	else \
		echo "No headers of $(PYTHON) here: the native module is not checked"; \
	fi
	@if [ -x $(VENV)/bin/ruff ]; then \
		cd $(PACKAGE) && lints=$(CURDIR)/$(VENV)/bin && $$lints/ruff check . && $$lints/ruff format --check . && $$lints/mypy; \
	else \
		echo "No $(VENV) here: the package's Python is not checked"; \
	fi

fmt: $(VENV)/ready
	cargo fmt
	@if [ -x $(VENV)/bin/ruff ]; then cd $(PACKAGE) && $(CURDIR)/$(VENV)/bin/ruff format .; fi

bench: build
	cargo bench --bench master

bench-shutdown: build $(VENV)/ready
	cargo bench --bench shutdown

bench-http: build wrk
	cargo bench --bench http

bench-python: bench-package wrk
	$(BENCH_VENV)/bin/python tests/bench/python/bench.py

bench-python-memory: bench-package
	$(BENCH_VENV)/bin/python tests/bench/python/memory.py

bench-python-restart: bench-package
	$(BENCH_VENV)/bin/python tests/bench/python/restart.py

.PHONY: bench-package
bench-package: llvm-tools $(BENCH_VENV)/ready
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(PGO) ./$(PACKAGE)

soak-python: bench-package
	$(BENCH_VENV)/bin/python -B tests/soak/soak.py --seconds $(SECONDS)

clean:
	cargo clean
	rm -rf $(VENV) $(BENCH_VENV)

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "gracefork needs a Rust toolchain (1.88 or newer): https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "gracefork needs a C linker (cc): apt-get install gcc" >&2; exit 1; }

# With it the native module is built with a profile (docs/architecture.md).
.PHONY: llvm-tools
llvm-tools: toolchain
	@test -x "$(MERGER)" || { \
		echo "Installing llvm-tools, for the profile of the native module: rustup component add llvm-tools"; \
		rustup component add llvm-tools || echo "No llvm-tools to be had here: the module is built without a profile, and somewhat slower"; \
	}

# The load of bench-http. Without it the bench leaves its first section out, and says so.
.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || { \
		echo "Installing wrk, which makes the load: apt-get install wrk"; \
		apt-get update -qq >/dev/null; apt-get install -y -qq wrk >/dev/null || echo "No wrk to be had here: the speed will not be measured"; \
	}

# One by one: what cannot be built here is left out of the comparison, which says so.
$(BENCH_VENV)/ready: tests/bench/python/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	@echo "Installing libev-dev, which bjoern is built with: apt-get install libev-dev"
	@apt-get install -y -qq libev-dev >/dev/null 2>&1 || echo "No libev-dev to be had here"
	@while read -r package; do \
		echo "Installing $$package"; \
		$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$package" || echo "No $$package to be had here"; \
	done < $<
	touch $@

# Servers that the tests run as foreign workers, and lints of Python. Without Python they are skipped, and say so.
$(VENV)/ready: tests/requirements.txt
	@if $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "Setting up $(VENV) with what the tests need: $$(tr '\n' ' ' < tests/requirements.txt)"; \
		$(PYTHON) -m venv $(VENV) && $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt && touch $@; \
	else \
		echo "No $(PYTHON) with venv here: tests that run Python servers will be skipped"; \
	fi

# The package itself, unoptimized: what the tests host Python apps with.
$(VENV)/gracefork: $(VENV)/ready $(PACKAGED)
	@if [ -x $(VENV)/bin/python ] && $(VENV)/bin/python -c '$(HEADERS)' 2>/dev/null; then \
		echo "Installing the package into $(VENV)"; \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall --config-settings profile=dev ./$(PACKAGE) && touch $@; \
	else \
		echo "No Python headers here: tests that host Python apps will be skipped"; \
	fi
