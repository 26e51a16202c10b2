#!/usr/bin/env bash
# Runs test suites of drivers against PostgreSQL directly and through pgweir, and fails where they differ without a reason that
# tests/suites/explained.toml gives: scripts/suites.sh [SUITE...], all suites unless some are named. Its last line is a count.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
place=$target/suites
here=tests/suites
python=$place/venv/bin/python

main() {
    # What was fetched stays, until a version changes.
    if ! cmp -s "$place/fetched" <(wanted); then
        mkdir -p "$place"
        rm -rf "$place"/{venv,sources,asyncpg,sqlalchemy,tokio-postgres}
        fetch_python
        fetch_rust
        wanted >"$place/fetched"
    fi
    cargo build --locked --quiet
    exec "$python" "$here/run.py" --fetched "$place" --pgweir "$target/debug/pgweir" "$@"
}

wanted() {
    cat "$here/requirements.txt" "$here/port.py" "$0"
    grep -A 1 '^name = "tokio-postgres"$' Cargo.lock
}

# The packages as they are installed everywhere, and the tests from their source distributions.
fetch_python() {
    echo "suites: fetching asyncpg and SQLAlchemy"
    python3 -m venv "$place/venv"
    local pip=("$python" -m pip --disable-pip-version-check)
    quietly "${pip[@]}" install -r "$here/requirements.txt"
    local sources
    mapfile -t sources < <(grep -E '^(asyncpg|sqlalchemy)==' "$here/requirements.txt")
    # Only for these: to build everything from its source takes compilers that are not needed.
    quietly "${pip[@]}" download --no-deps --no-binary asyncpg,sqlalchemy -d "$place/sources" "${sources[@]}"
    unpack asyncpg '*/tests' '*/pyproject.toml'
    unpack sqlalchemy
}

unpack() {
    local name=$1
    shift
    mkdir -p "$place/$name"
    tar -xzf "$place/sources/$name"-*.tar.gz -C "$place/$name" --strip-components 1 --wildcards "$@"
}

# The tests of tokio-postgres are in its crate. Which release, Cargo.lock says.
fetch_rust() {
    echo "suites: building the tests of tokio-postgres"
    local crate=$place/tokio-postgres origin
    origin=$(cargo metadata --locked --format-version 1 | "$python" -c '
import json, sys
print(*(package["manifest_path"] for package in json.load(sys.stdin)["packages"] if package["name"] == "tokio-postgres"))')
    cp -r "$(dirname "$origin")" "$crate"
    # It is no part of the workspace around it.
    printf '\n[workspace]\n' >>"$crate/Cargo.toml"
    "$python" "$here/port.py" "$crate"/tests/test/{main,runtime}.rs
    # All of its features but the one for browsers.
    local features
    features=$(sed -nE 's/^((array-impls|with-)[^ ]*) = .*/\1/p' "$crate/Cargo.toml" | grep -vE '^with-cidr' | paste -sd,)
    quietly cargo test --locked --manifest-path "$crate/Cargo.toml" --target-dir "$place/cargo" --no-run --test test --features "$features"
    sed -nE 's/^ *Executable .*\((.*)\)$/\1/p' "$place/log" >"$crate/executable"
}

# Runs a command with its output in a file, of which the end is shown when that was in vain.
quietly() {
    if ! "$@" >"$place/log" 2>&1; then
        tail -n 20 "$place/log" >&2
        echo "suites: failed: $*" >&2
        exit 1
    fi
}

main "$@"
