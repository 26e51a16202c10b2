#!/usr/bin/env bash
# Runs fuzz targets for a while, as many at once as there are CPUs: scripts/fuzz-smoke.sh [SECONDS [TARGET...]], all targets
# unless some are named. The inputs are those of one seed, so that what a run finds the next finds too: FUZZ_SEED=0 takes others
# each time. What is found interesting stays in fuzz/target; an input that breaks something is named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
targets=("$@")

command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
# The targets run with the versions that the product is built with.
cp Cargo.lock fuzz/Cargo.lock
# No sanitizer, which would need more than the stable compiler: there is no unsafe code here for it to watch.
cargo fuzz build --sanitizer none
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)

# One target: its output is shown when it fails.
run_target() {
    local seconds=$1 target=$2 found=fuzz/target/corpus/$2 log=fuzz/target/$2.log
    mkdir -p "$found"
    # The committed inputs are read only; new ones go to the first directory.
    if cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -seed="${FUZZ_SEED:-1}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s"
    else
        cat "$log"
        echo "fuzz: $target: broken; the input is in fuzz/artifacts/$target" >&2
        return 1
    fi
}
export -f run_target
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'run_target "$@"' _ "$seconds" {}
