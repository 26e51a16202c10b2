#!/usr/bin/env python3
"""Runs test suites of drivers against PostgreSQL directly and through pgweir, and compares test by test.

What passes directly must pass through pgweir. A difference that no proxy can avoid is listed in explained.toml with its reason;
one that is listed and does not show any more fails the comparison too. Both ways run side by side, each with a server of its
own, started for the purpose and gone afterwards. Each test is printed with what came of it through pgweir, and at the end what
differs. scripts/suites.sh fetches the suites and starts this.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "benches"))
import pgbench  # noqa: E402

WAYS = ("direct", "pooled")
# A suite takes a few minutes; on a busy machine a few times that.
SUITE_SECONDS_MAX = 1800
# Fewer than the connections that each of the suites has open at once, in the tests of its own pool for instance.
POOL_SIZE = 5

CONFIG = """listen = ["127.0.0.1:{port}"]
workers = 3
pool_mode = "transaction"
pool_size = {pool_size}
# asyncpg leaves statements of ten seconds behind, which a server carries out to their end.
pool_timeout = "15s"
log_level = "info"
[auth]
method = "hba"
hba_file = "{hba}"
[users.postgres]
# pg8000 creates it.
[users.boltzmann]
[users.pass_user]
password = "password"
[users.md5_user]
password = "password"
[users.scram_user]
password = "password"
[databases."*"]
url = "postgresql://127.0.0.1:{postgres_port}"
"""

# For both ways: tokio-postgres logs in with passwords.
HBA = """host all pass_user 127.0.0.1/32 password
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    explained = tomllib.loads((HERE / "explained.toml").read_text())
    verdicts = []
    for name in options.suites:
        with Servers(options, SUITES[name]) as servers:
            servers.start()
            outcomes = servers.run_both_ways()
        verdicts.append(Verdict(name, outcomes, explained.get(name, {}), is_part=options.quick or bool(options.only)))
        verdicts[-1].print_tests()
    for verdict in verdicts:
        verdict.print_differences()
    passed = sum(verdict.passed for verdict in verdicts)
    failed = sum(verdict.failed for verdict in verdicts)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compare drivers' own test suites, direct and through pgweir.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; all, unless some are named")
    parser.add_argument("--pgweir", type=Path, default=ROOT / "target/debug/pgweir", help="the program to test")
    parser.add_argument("--fetched", type=Path, default=ROOT / "target/suites", help="where the suites are, and logs go")
    parser.add_argument("--only", default="", help="run a part: what to tell the suite, such as --only='-k NAME'")
    parser.add_argument("--quick", action="store_true", help="without the suites, and parts of them, that mostly repeat others")
    options = parser.parse_args()
    options.suites = options.suites or [name for name, suite in SUITES.items() if suite.quick is not None or not options.quick]
    if not set(options.suites) <= set(SUITES):
        parser.error(f"choose from {', '.join(SUITES)}")
    # The suites run in directories of their own.
    options.fetched = options.fetched.resolve()
    return options


class Servers(pgbench.Bench):
    """A PostgreSQL for each way, and pgweir before one of them. Their logs are kept beside the suites'."""

    def __init__(self, options, suite):
        super().__init__(options)
        self.suite = suite
        self.ports = {}

    def __exit__(self, *error):
        for log in self.home.glob("*.log"):
            shutil.copyfile(log, self.options.fetched / f"{self.suite.name}-{log.name}")
        super().__exit__(*error)

    def start(self):
        self.hand_over(self.home)
        for way in WAYS:
            self.ports[way] = self.start_postgres(way)
        self.ports["pooled"] = self.start_pgweir(self.ports["pooled"])

    def start_postgres(self, way):
        data = self.home / f"data-{way}"
        initdb = [self.postgres_bin / "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D", data]
        pgbench.run(self.as_account(initdb))
        (data / "pg_hba.conf").write_text(HBA)
        sockets = self.home / f"socket-{way}"
        sockets.mkdir()
        self.hand_over(sockets)
        port = pgbench.free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": sockets,
            "max_connections": 200,
            # For the tests of two-phase commit and of full text search.
            "max_prepared_transactions": 20,
            "default_text_search_config": "pg_catalog.english",
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        name = f"postgres-{way}"
        self.spawn(name, self.as_account([self.postgres_bin / "postgres", "-D", data, "-p", str(port), *flags]))
        self.wait_for(port, name, "postgres")
        for database, statement in self.suite.prepare:
            command = statement.format(suite=self.options.fetched / self.suite.directory)
            pgbench.run([*self.client("psql"), "-X", "-q", "-d", pgbench.url(port, database), "-c", command])
        return port

    def start_pgweir(self, postgres_port):
        port = pgbench.free_port()
        hba = self.home / "pg_hba.conf"
        hba.write_text(HBA)
        config = self.home / "pgweir.toml"
        config.write_text(CONFIG.format(port=port, postgres_port=postgres_port, pool_size=POOL_SIZE, hba=hba))
        self.spawn("pgweir", [*pgbench.dies_with_parent("KILL"), self.options.pgweir.resolve(), config])
        self.wait_for(port, "pgweir", "postgres")
        return port

    def run_both_ways(self):
        with ThreadPoolExecutor(len(WAYS)) as side_by_side:
            running = {way: side_by_side.submit(self.run_one_way, way) for way in WAYS}
            return {way: future.result() for way, future in running.items()}

    def run_one_way(self, way):
        begun = time.monotonic()
        log = self.options.fetched / f"{self.suite.name}-{way}.log"
        outcomes = self.suite.run(self.options, self.ports[way], log)
        if not outcomes:
            raise SystemExit(f"suites: {self.suite.name} has run no test: see {log}")
        say(f"{self.suite.name}, {way}: {len(outcomes)} tests in {time.monotonic() - begun:.0f} s")
        return outcomes


class PythonSuite:
    """Tests for pytest. `quick` is what else to tell it in a quick run, or None if it is left out there."""

    def __init__(self, name, *, arguments, directory=None, prepare=(), variables=None, python=(), quick=()):
        self.name = name
        self.quick = quick
        self.directory = directory or name
        self.prepare = prepare
        self.arguments = arguments
        self.variables = variables or {}
        self.python = python

    def run(self, options, port, log):
        report = log.with_suffix(".xml")
        report.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        python = options.fetched / "venv/bin/python"
        command = [python, *self.python, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += [word.format(port=port) for word in self.arguments] + options.only.split()
        if options.quick and not options.only:
            command += self.quick
        variables = {name: value.format(port=port) for name, value in self.variables.items()}
        run_logged(command, options.fetched / self.directory, variables, log)
        if not report.is_file():
            raise SystemExit(f"suites: {self.name} did not come to its end: see {log}")
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            # SQLAlchemy puts the driver and the server's version into names.
            where = re.sub(r"_postgresql\+\w+$", "", case.get("classname"))
            test = f"{where}.{case.get('name')}"
            # A test that passes, and whose end fails, is there twice.
            if outcomes.get(test) != "failed":
                outcomes[test] = outcome_of(case)
        return outcomes


def outcome_of(case):
    found = {child.tag for child in case}
    if found & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in found else "passed"


class RustSuite:
    """Tests for cargo, in executables. They take seconds, so that a quick run has them too."""

    quick = ()

    def __init__(self, name, *, prepare, variables):
        self.name = name
        self.directory = name
        self.prepare = prepare
        self.variables = variables

    def run(self, options, port, log):
        place = options.fetched / self.directory
        variables = {name: value.format(port=port) for name, value in self.variables.items()}
        words = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
        outcomes = {}
        log.unlink(missing_ok=True)
        for executable in map(Path, (place / "executables").read_text().split()):
            # Cargo puts a hash behind the name.
            name = executable.name.rsplit("-", 1)[0]
            begin = log.stat().st_size if log.exists() else 0
            run_logged([ROOT / executable, *options.only.split()], place, variables, log)
            printed = log.read_bytes()[begin:].decode(errors="replace")
            for test, word in re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", printed, re.MULTILINE):
                outcomes[f"{name}::{test}"] = words[word]
        return outcomes


def run_logged(command, directory, variables, log):
    """Runs a suite, or a part of it. That tests fail is no error: what matters is which."""
    with open(log, "ab") as output:
        try:
            subprocess.run(
                [str(word) for word in (*pgbench.dies_with_parent("KILL"), *command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env={**pgbench.environment(), **variables},
                timeout=SUITE_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"suites: not at an end after {SUITE_SECONDS_MAX} s: see {log}")


class Verdict:
    """What passes directly and not through pgweir, held against what is explained.

    The explanation of a test is its reason, or the reason together with `shows = "sometimes"` if the difference hangs on
    chance, such as on which server connection a request meets.
    """

    def __init__(self, suite, outcomes, explained, is_part):
        direct, pooled = outcomes["direct"], outcomes["pooled"]
        self.suite = suite
        self.direct = direct
        self.pooled = pooled
        self.explained = explained
        good = [test for test in direct if direct[test] == "passed"]
        self.different = sorted(test for test in good if pooled.get(test) != "passed")
        self.unexplained = [test for test in self.different if test not in explained]
        self.stale = sorted(test for test in explained if self.is_stale(test, is_part))
        self.fails_directly = sorted(test for test in direct if direct[test] == "failed")
        self.failed = len(self.unexplained) + len(self.stale)
        self.passed = len(good) - len(self.unexplained)

    def is_stale(self, test, is_part):
        """Whether what is explained about a test does not show. One that a part of the suite leaves out tells nothing."""
        if test in self.different or (is_part and test not in self.direct):
            return False
        # What hangs on chance needs not show, nor pass directly each time; but there must be such a test.
        return isinstance(self.explained[test], str) or test not in self.direct

    def print_tests(self):
        for test in sorted(self.pooled):
            print(f"{self.suite}: {self.word(test)}: {test}")

    def word(self, test):
        if self.pooled[test] == "failed" and self.direct.get(test) == "failed":
            return "fails directly"
        return "differs" if test in self.different and test in self.explained else self.pooled[test]

    def print_differences(self):
        for test in self.fails_directly:
            print(f"{self.suite}: fails without pgweir too: {test}")
        for test in self.different:
            how = self.pooled.get(test, "missing")
            if test in self.unexplained:
                print(f"{self.suite}: NOT EXPLAINED: {how}: {test}")
            else:
                reason = self.explained[test]
                print(f"{self.suite}: explained: {test}: {reason if isinstance(reason, str) else reason['reason']}")
        for test in self.stale:
            print(f"{self.suite}: EXPLAINED, BUT DOES NOT SHOW: {test}")


def sqlalchemy(driver, quick):
    return PythonSuite(
        f"sqlalchemy-{driver}",
        directory="sqlalchemy",
        prepare=[
            ("postgres", "CREATE DATABASE test"),
            ("test", "CREATE EXTENSION hstore"),
            ("test", "CREATE SCHEMA test_schema"),
            ("test", "CREATE SCHEMA test_schema_2"),
        ],
        arguments=[
            "test/dialect/postgresql",
            "test/dialect/test_suite.py",
            "--maxfail=100000",
            "--dburi",
            f"postgresql+{driver}://postgres@127.0.0.1:{{port}}/test",
        ],
        # The installed package, whose parts in C are built, is used instead of the sources beside the tests.
        python=["-s"],
        quick=quick,
    )


SUITES = {
    suite.name: suite
    for suite in (
        RustSuite(
            "tokio-postgres",
            prepare=[
                ("postgres", "CREATE EXTENSION hstore"),
                ("postgres", "CREATE EXTENSION citext"),
                ("postgres", "CREATE EXTENSION ltree"),
                ("postgres", "CREATE ROLE pass_user LOGIN PASSWORD 'password'"),
                ("postgres", "SET password_encryption = md5; CREATE ROLE md5_user LOGIN PASSWORD 'password'"),
                ("postgres", "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram_user LOGIN PASSWORD 'password'"),
            ],
            variables={"PGPORT": "{port}"},
        ),
        RustSuite(
            "sqlx",
            prepare=[
                ("postgres", "CREATE DATABASE sqlx"),
                ("sqlx", "\\i {suite}/tests/postgres/setup.sql"),
            ],
            variables={"DATABASE_URL": "postgresql://postgres@127.0.0.1:{port}/sqlx"},
        ),
        PythonSuite(
            "asyncpg",
            arguments=["-q", "tests", "-p", "no:asyncio", "--deselect", "tests/test__environment.py"],
            variables={
                "PGHOST": "127.0.0.1",
                "PGPORT": "{port}",
                "PGUSER": "postgres",
                "PGDATABASE": "postgres",
                # A connection that is given up while TLS is being agreed leaves an error behind, which befalls a later test.
                "PGSSLMODE": "disable",
            },
        ),
        PythonSuite(
            "pg8000",
            prepare=[("postgres", "CREATE EXTENSION hstore")],
            # The others of its tests are about itself, or need servers that ask for passwords in each of the ways.
            arguments=["-q", "test/native", "test/dbapi", "test/legacy", "--ignore-glob=*/auth", "--ignore-glob=*benchmarks.py"],
            variables={"PGHOST": "127.0.0.1", "PGPORT": "{port}"},
            # Takes a minute, all of it in the driver, which makes sense of a text with 65,535 parameters.
            quick=["--deselect", "test/native/test_query.py::test_max_parameters"],
        ),
        sqlalchemy("psycopg", quick=None),
        # One type of ranges, for the six that have the same 1,228 tests each.
        sqlalchemy("asyncpg", quick=["-k", "Int4RangeRoundTripTest or not RangeRoundTripTest"]),
    )
}


def say(what):
    print(f"suites: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
