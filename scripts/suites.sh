#!/usr/bin/env bash
# Runs test suites of drivers against PostgreSQL directly and through pgweir, and fails where they differ without a reason that
# tests/suites/explained.toml gives: scripts/suites.sh [--quick] [SUITE...], all suites unless some are named. Its last line is a
# count.
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
        rm -rf "$place"/{venv,sources,asyncpg,pg8000,sqlalchemy,sqlx,tokio-postgres}
        fetch_python
        fetch_tokio_postgres
        fetch_sqlx
        wanted >"$place/fetched"
    fi
    cargo build --locked --quiet
    exec "$python" "$here/run.py" --fetched "$place" --pgweir "$target/debug/pgweir" "$@"
}

wanted() {
    cat "$here/requirements.txt" "$here/port.py" "$here"/sqlx/{Cargo.toml,Cargo.lock,src/lib.rs} "$0"
    grep -A 1 '^name = "tokio-postgres"$' Cargo.lock
}

# The packages as they are installed everywhere, and the tests from their source distributions.
fetch_python() {
    echo "suites: fetching asyncpg, pg8000 and SQLAlchemy"
    python3 -m venv "$place/venv"
    local pip=("$python" -m pip --disable-pip-version-check)
    quietly "${pip[@]}" install -r "$here/requirements.txt"
    local sources
    mapfile -t sources < <(grep -E '^(asyncpg|pg8000|sqlalchemy)==' "$here/requirements.txt")
    # Only for these: to build everything from its source takes compilers that are not needed.
    quietly "${pip[@]}" download --no-deps --no-binary asyncpg,pg8000,sqlalchemy -d "$place/sources" "${sources[@]}"
    unpack asyncpg '*/tests' '*/pyproject.toml'
    unpack pg8000 '*/test' '*/pyproject.toml'
    unpack sqlalchemy
}

unpack() {
    local name=$1
    shift
    mkdir -p "$place/$name"
    tar -xzf "$place/sources/$name"-*.tar.gz -C "$place/$name" --strip-components 1 --wildcards "$@"
}

# The tests of tokio-postgres are in its crate. Which release, Cargo.lock says.
fetch_tokio_postgres() {
    echo "suites: building the tests of tokio-postgres"
    local crate=$place/tokio-postgres
    cp -r "$(origin tokio-postgres Cargo.toml)" "$crate"
    # It is no part of the workspace around it.
    printf '\n[workspace]\n' >>"$crate/Cargo.toml"
    "$python" "$here/port.py" "$crate"/tests/test/{main,runtime}.rs
    # All of its features but the one for browsers.
    local features
    features=$(sed -nE 's/^((array-impls|with-)[^ ]*) = .*/\1/p' "$crate/Cargo.toml" | grep -vE '^with-cidr' | paste -sd,)
    build_tests "$crate" --test test --features "$features"
}

# So are those of sqlx, but for a library that they need: it is ours, and so is the choice of what they are built with. Left out
# are those that ask a server while they are compiled (macros) or take more than 4 GB of memory (rustsec).
fetch_sqlx() {
    echo "suites: building the tests of sqlx"
    local crate=$place/sqlx source file
    cp -r "$here/sqlx" "$crate"
    source=$(origin sqlx "$crate/Cargo.toml")
    mkdir "$crate/tests"
    cp -r "$source"/tests/{fixtures,postgres} "$crate/tests/"
    # One query is checked while it is compiled.
    sed -i 's/sqlx::query!(/sqlx::query(/' "$crate/tests/postgres/postgres.rs"
    for file in derives describe error migrate postgres query_builder test-attr types; do
        printf '\n[[test]]\nname = "%s"\npath = "tests/postgres/%s.rs"\n' "$file" "$file" >>"$crate/Cargo.toml"
    done
    build_tests "$crate" --tests
}

# The directory of a crate that the package with this manifest depends on.
origin() {
    cargo metadata --quiet --locked --format-version 1 --manifest-path "$2" | "$python" -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*(os.path.dirname(package["manifest_path"]) for package in packages if package["name"] == sys.argv[1]))' "$1"
}

build_tests() {
    local crate=$1
    shift
    quietly cargo test --locked --manifest-path "$crate/Cargo.toml" --target-dir "$place/cargo" --no-run "$@"
    sed -nE 's/^ *Executable tests.*\((.*)\)$/\1/p' "$place/log" >"$crate/executables"
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
