# What to type. `make run` and `make test` do all set-up and say so.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PORT ?= 8000
OPS_PORT ?= 9090

.PHONY: help run build test model check fmt bench bench-shutdown bench-http clean

help:
	@echo "make run    build, and run the axum example under gracefork (PORT=$(PORT))"
	@echo "make test   every test: units, simulation, end to end"
	@echo "make model  the baton's hand-over in more orders than the tests try (takes long)"
	@echo "make check  formatting and lints, as CI does"
	@echo "make bench  measure the master, and print a table (4 minutes)"
	@echo "make bench-shutdown  requests lost on SIGTERM and SIGHUP, beside gunicorn and uvicorn (5 minutes)"
	@echo "make bench-http  what a request and a connection cost a worker, beside bare hyper (5 minutes)"

# The main job: two workers of the axum example, and what to try with them.
run: build
	@echo
	@echo "Serving on http://127.0.0.1:$(PORT). Try, in another terminal:"
	@echo "  curl http://127.0.0.1:$(PORT)/health          a worker's own health"
	@echo "  curl http://127.0.0.1:$(OPS_PORT)/status          what the master sees"
	@echo "  kill -HUP  \$$(pgrep -nx gracefork)           reload: new workers, nothing lost"
	@echo "  kill -TERM \$$(pgrep -nx gracefork)           unhealthy for 5 s while it serves on, then out"
	@echo "Ctrl-C drains at once."
	@echo
	@target/release/gracefork -b 127.0.0.1:$(PORT) -w 2 --lameduck 5s --health-listen 127.0.0.1:$(OPS_PORT) target/release/axum-app

build: toolchain
	cargo build --release --workspace

test: toolchain $(VENV)/ready
	cargo build --workspace
	cargo test --workspace

model: toolchain
	LOOM_MAX_PREEMPTIONS=3 cargo test -p worker-http --test model

check: toolchain
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt

# --workspace: the same features, and so the same binaries, as `build`.
bench: build
	cargo bench --workspace --bench master

bench-shutdown: build $(VENV)/ready
	cargo bench --workspace --bench shutdown

bench-http: build wrk
	cargo bench --workspace --bench http

clean:
	cargo clean
	rm -rf $(VENV)

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "gracefork needs a Rust toolchain (1.88 or newer): https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "gracefork needs a C linker (cc): apt-get install gcc" >&2; exit 1; }

# The load of bench-http. Without it the bench leaves its first section out, and says so.
.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || { \
		echo "Installing wrk, which makes the load: apt-get install wrk"; \
		apt-get install -y -qq wrk >/dev/null || echo "No wrk to be had here: the speed will not be measured"; \
	}

# Servers that the tests run as foreign workers. Without Python they are skipped, and say so.
$(VENV)/ready: tests/requirements.txt
	@if $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "Setting up $(VENV) with the servers that the tests run: $$(tr '\n' ' ' < tests/requirements.txt)"; \
		$(PYTHON) -m venv $(VENV) && $(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt && touch $@; \
	else \
		echo "No $(PYTHON) with venv here: tests that run Python servers will be skipped"; \
	fi
