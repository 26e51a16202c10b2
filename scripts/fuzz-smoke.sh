#!/usr/bin/env bash
# Runs each fuzz target for a few seconds: scripts/fuzz-smoke.sh [SECONDS]. Nothing to do while there is no fuzz/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
if [ ! -f fuzz/Cargo.toml ]; then
    exit 0
fi
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
# The sanitizers need flags that the stable compiler knows but does not offer.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    echo "fuzz: $target for $seconds s"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0
done
