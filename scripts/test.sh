#!/usr/bin/env bash
# Runs all tests, with nextest where it is installed. The last line says how many ran.
set -euo pipefail
cd "$(dirname "$0")/.."

# One test measures the program as it is released. It builds that itself; here nobody's time runs out meanwhile.
cargo build --release --locked

if cargo nextest --version >/dev/null 2>&1; then
    # It does not know the examples in the documentation.
    cargo test --locked --doc --quiet
    exec cargo nextest run --locked "$@"
fi
cargo test --locked "$@"
