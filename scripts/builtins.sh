#!/usr/bin/env bash
# Writes the tables of PostgreSQL's own functions, types and operators below src/plan/builtin, from servers of each major
# version that is supported: what any of them has is in, and what any of them calls volatile is volatile.
#
#   scripts/builtins.sh 'host=/tmp port=7714' 'host=/tmp port=7718' …      a connection string of psql's each
set -euo pipefail
cd "$(dirname "$0")/../src/plan/builtin"
export LC_ALL=C

[ $# -gt 0 ] || { sed -n '2,6p' "../../../scripts/builtins.sh" >&2; exit 2; }

ask() {
    local query=$1 server
    shift
    for server in "$@"; do psql -XAt -F ' ' "$server dbname=template1 user=postgres" -c "$query"; done
}

ask "SELECT DISTINCT proname, CASE provolatile WHEN 'v' THEN 'v' ELSE 'r' END FROM pg_proc
     WHERE pronamespace = 'pg_catalog'::regnamespace" "$@" |
    awk 'NR == FNR { if ($1 ~ /^[a-z]$/) { letter[++count] = $1; pattern[count] = "^(" $2 ")$" } next }
         $2 == "v" || !($1 in verdict) { verdict[$1] = $2 }
         END {
             for (name in verdict) {
                 for (i = 1; i <= count; i++) if (name ~ pattern[i]) { verdict[name] = letter[i]; break }
                 print name, verdict[name]
             }
         }' overrides.txt - | sort >functions.txt

# Row types of catalogs and arrays by their inner names are not written in queries; they are unknown.
ask "SELECT DISTINCT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype <> 'c'
     AND typname !~ '^_'" "$@" | sort -u >types.txt

ask "SELECT DISTINCT oprname FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace" "$@" | sort -u >operators.txt
wc -l functions.txt types.txt operators.txt
