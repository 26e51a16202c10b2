# The steps of CI have the same names here.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup check test test-threads demo bench bench-micro fuzz-smoke sim differential suites suites-quick ci

CARGO ?= cargo
SEED ?=
# How many seeds the simulation plays.
SEEDS ?=
# Words in the names of scripts.
SCRIPT ?=
# Seconds that each fuzz target runs in the smoke test.
FUZZ_SECONDS ?= 20
# Rounds, and seconds of each run, of the comparison.
BENCH ?= --rounds 3 --seconds 5
# Which suites of drivers; all of them unless named.
SUITES ?=

help:
	@echo 'make demo        a private PostgreSQL cluster with pgweir in front; Ctrl-C removes it'
	@echo 'make test        everything the tests need, then all tests'
	@echo 'make check       formatting, clippy, documentation'
	@echo 'make bench       compare with PgBouncer (BENCH="--rounds 3 --seconds 5")'
	@echo 'make bench-micro framing, lease and return, looking at texts, plans, in nanoseconds'
	@echo 'make fuzz-smoke  each fuzz target for $(FUZZ_SECONDS) seconds'
	@echo 'make sim         the simulation alone (SEED=… replays one seed, SEEDS=… plays so many)'
	@echo 'make differential sessions compared with PostgreSQL'"'"'s own (SCRIPT=… plays one script, SEED=… one random history)'
	@echo 'make suites      test suites of drivers, direct against through pgweir (SUITES="asyncpg"; all of them unless named)'
	@echo 'make suites-quick without those, and parts of them, that mostly repeat others'
	@echo 'make ci          what CI runs: check, test-threads, fuzz-smoke, test'

setup:
	@scripts/setup.sh

check:
	@scripts/setup.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --locked --quiet

# nextest gives each test a process of its own; without it, cargo's own runner does.
test:
	@scripts/setup.sh build test
	@scripts/test.sh

# All tests of the library as threads of one process: passing there shows that there are no globals between them.
test-threads:
	@scripts/setup.sh build test
	$(CARGO) test --locked --lib

demo:
	@scripts/setup.sh build demo
	$(CARGO) build --release --locked
	@$${CARGO_TARGET_DIR:-target}/release/pgweir demo

bench:
	@scripts/setup.sh build bench
	$(CARGO) build --release --locked
	@python3 benches/pgbench.py $(BENCH)

bench-micro:
	@scripts/setup.sh build
	$(CARGO) bench --locked --bench framing --bench lease --bench screen --bench plan

fuzz-smoke:
	@scripts/setup.sh build fuzz
	@scripts/fuzz-smoke.sh $(FUZZ_SECONDS)

sim:
	PGWEIR_SIM_SEED=$(SEED) PGWEIR_SIM_SEEDS=$(SEEDS) $(CARGO) test --locked --test sim

differential:
	@scripts/setup.sh build test
	$(if $(SEED),DIFFERENTIAL_SEED=$(SEED)) DIFFERENTIAL_SCRIPT='$(SCRIPT)' $(CARGO) test --locked --test differential -- \
		$(if $(SEED),random_histories) $(if $(SCRIPT),--nocapture --skip random_histories)

suites:
	@scripts/setup.sh build test
	@scripts/suites.sh $(SUITES)

suites-quick:
	@scripts/setup.sh build test
	@scripts/suites.sh --quick $(SUITES)

# The tests last, so that their count is the last line.
ci: check test-threads fuzz-smoke test
