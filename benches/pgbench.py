#!/usr/bin/env python3
"""Compares PostgreSQL alone, through pgweir and through PgBouncer, with pgbench's select-only load.

Everything runs on this machine, on data in memory, and alternates within each round, so that noise meets all alike. The figure
that holds on a noisy machine is the pooler's own CPU time a query: user and system time of all its threads, from /proc, divided
by the number of queries. Each figure is the median over the rounds. Both poolers have one worker, transaction mode and a pool
of 20. A PgBouncer older than 1.21 cannot keep prepared statements in transaction mode; it then runs in session mode for them,
with a server connection for each client, and the output says so.

`--targets pgweir,routed` compares pgweir with itself before a primary and two replicas, which take the reads: what routing costs.
There are so many accounts that the texts of `simple` hardly ever come again.
"""

import argparse
import json
import os
import pwd
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "bench"
POOL_SIZE = 20
# Starting a server or a pooler takes far less.
START_SECONDS_MAX = 30
# What pgbench may take beyond the time it was given.
GRACE_SECONDS = 60
PROTOCOLS = ("simple", "extended", "prepared")
TARGETS = ("direct", "pgweir", "pgbouncer", "routed")
REPLICAS = 2


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Bench(options) as bench:
        bench.start()
        measured = bench.measure()
    report(options, bench, measured)


def parse_arguments():
    def words(allowed):
        def parse(text):
            chosen = text.split(",")
            if not set(chosen) <= set(allowed):
                raise argparse.ArgumentTypeError(f"choose from {','.join(allowed)}")
            return [word for word in allowed if word in chosen]

        return parse

    parser = argparse.ArgumentParser(description="Compare with PgBouncer by pgbench.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--protocols", type=words(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--targets", type=words(TARGETS), default=list(TARGETS[:3]))
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--pgweir", type=Path, default=target / "release" / "pgweir", help="the program to measure")
    parser.add_argument("--pgbouncer", type=Path, help="the PgBouncer to compare with; the package's")
    parser.add_argument("--json", type=Path, help="write every single run there too")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("at least one round of one second")
    if {"pgweir", "routed"} & set(options.targets) and not options.pgweir.is_file():
        parser.error(f"there is no {options.pgweir}: build it first (cargo build --release)")
    return options


class Bench:
    """The servers and poolers; on leaving, all end and their files go."""

    def __init__(self, options):
        self.options = options
        self.account = unprivileged_account()
        self.postgres_bin = postgres_bin()
        memory = Path("/dev/shm")
        has_room = memory.is_dir() and shutil.disk_usage(memory).free > (1 << 30)
        self.home = Path(tempfile.mkdtemp(prefix="pgweir-bench-", dir=memory if has_room else None))
        self.processes = []
        # Of each target and protocol: the port, and the process whose CPU time counts.
        self.endpoints = {}
        self.pgbouncer_version = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self):
        self.hand_over(self.home)
        postgres_port = self.start_postgres()
        for protocol in self.options.protocols:
            self.endpoints["direct", protocol] = (postgres_port, None)
        if "pgweir" in self.options.targets:
            self.start_pgweir("pgweir", postgres_port, [])
        if "routed" in self.options.targets:
            replicas = [self.start_replica(number, postgres_port) for number in range(1, REPLICAS + 1)]
            self.start_pgweir("routed", postgres_port, replicas)
        if "pgbouncer" in self.options.targets:
            self.start_pgbouncers(postgres_port)

    def start_postgres(self):
        say("starting PostgreSQL")
        data = self.home / "data"
        run(self.as_account([self.postgres_bin / "initdb", "--username=postgres", "--auth=trust", "--no-sync", "-D", data]))
        sockets = self.home / "socket"
        sockets.mkdir()
        self.hand_over(sockets)
        port = self.start_server("postgres", data)
        run([*self.client("psql"), "-X", "-q", "-d", url(port, "postgres"), "-c", f"CREATE DATABASE {DATABASE}"])
        say(f"filling it (scale {self.options.scale})")
        run([*self.client("pgbench"), "-i", "-q", "-s", str(self.options.scale), url(port)])
        return port

    def start_replica(self, number, primary):
        say(f"copying it to replica {number}")
        data = self.home / f"replica{number}"
        primary_url = url(primary, "postgres")
        run(self.as_account([self.client("pg_basebackup")[0], "-D", data, "-R", "-c", "fast", "--no-sync", "-d", primary_url]))
        return self.start_server(f"replica{number}", data, DATABASE)

    def start_server(self, name, data, database="postgres"):
        port = free_port()
        sockets = self.home / "socket"
        # Room for the pools, for the clients of a PgBouncer in session mode and for pgbench directly.
        connections = 3 * max(self.options.clients) + 3 * POOL_SIZE + 20
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": sockets,
            "max_connections": connections,
            "shared_buffers": "256MB",
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
            "autovacuum": "off",
            "max_wal_size": "256MB",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        self.spawn(name, self.as_account([self.postgres_bin / "postgres", "-D", data, "-p", str(port), *flags]))
        self.wait_for(port, name, database)
        return port

    def start_pgweir(self, name, postgres_port, replica_ports):
        port = free_port()
        replicas = f"read_replicas = {json.dumps([url(replica) for replica in replica_ports])}" if replica_ports else ""
        config = self.home / f"{name}.toml"
        config.write_text(
            f"""listen = ["127.0.0.1:{port}"]
workers = 1
pool_mode = "transaction"
pool_size = {POOL_SIZE}
log_level = "warn"
[auth]
method = "trust"
[databases.{DATABASE}]
url = "{url(postgres_port)}"
{replicas}
"""
        )
        process = self.spawn(name, [*dies_with_parent("KILL"), self.options.pgweir.resolve(), config])
        self.wait_for(port, name)
        if replica_ports:
            self.wait_for_reads(port)
        for protocol in self.options.protocols:
            self.endpoints[name, protocol] = (port, process.pid)

    def start_pgbouncers(self, postgres_port):
        program = self.options.pgbouncer or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("bench: there is no pgbouncer; install the package")
        version = re.search(r"(\d+)\.(\d+)\.(\d+)", run([program, "--version"]))
        self.pgbouncer_version = version.group()
        knows_prepared = (int(version.group(1)), int(version.group(2))) >= (1, 21)
        self.session_for_prepared = "prepared" in self.options.protocols and not knows_prepared
        extra = "max_prepared_statements = 200" if knows_prepared else ""
        endpoint = self.start_pgbouncer(program, postgres_port, "transaction", POOL_SIZE, extra)
        for protocol in self.options.protocols:
            self.endpoints["pgbouncer", protocol] = endpoint
        if self.session_for_prepared:
            self.endpoints["pgbouncer", "prepared"] = self.start_pgbouncer(
                program, postgres_port, "session", max(self.options.clients), ""
            )

    def start_pgbouncer(self, program, postgres_port, mode, pool_size, extra):
        port = free_port()
        config = self.home / f"pgbouncer-{mode}.ini"
        config.write_text(
            f"""[databases]
{DATABASE} = host=127.0.0.1 port={postgres_port} dbname={DATABASE} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
log_stats = 0
{extra}
"""
        )
        self.hand_over(config)
        process = self.spawn(f"pgbouncer-{mode}", self.as_account([program, config]))
        self.wait_for(port, f"pgbouncer-{mode}")
        return port, process.pid

    def measure(self):
        """All runs, by case and target."""
        cases = [(protocol, clients) for protocol in self.options.protocols for clients in self.options.clients]
        targets = self.options.targets
        runs = {(case, target): [] for case in cases for target in targets}
        seconds = self.options.rounds * len(cases) * len(targets) * self.options.seconds
        say(f"{self.options.rounds} rounds of {len(cases)} cases on {len(targets)} targets: at least {seconds} s")
        for number in range(self.options.rounds):
            for protocol, clients in cases:
                # Another one is the first in each round.
                turn = number % len(targets)
                for target in targets[turn:] + targets[:turn]:
                    runs[(protocol, clients), target].append(self.run_once(target, protocol, clients))
            say(f"round {number + 1} of {self.options.rounds} is done")
        return runs

    def run_once(self, target, protocol, clients):
        port, pid = self.endpoints[target, protocol]
        with tempfile.TemporaryDirectory(dir=self.home) as logs:
            command = [*self.client("pgbench"), "-S", "-n", "-M", protocol, "-c", str(clients), "-j", str(min(clients, 2))]
            command += ["-T", str(self.options.seconds), "-l", f"--log-prefix={logs}/log", url(port)]
            before = cpu_seconds(pid)
            output = run(command, self.options.seconds + GRACE_SECONDS)
            after = cpu_seconds(pid)
            latencies = sorted(int(line.split()[2]) for log in Path(logs).iterdir() for line in log.open())
        queries = int(re.search(r"transactions actually processed: (\d+)", output).group(1))
        failed = re.search(r"number of failed transactions: (\d+)", output)
        if queries == 0 or (failed and failed.group(1) != "0"):
            raise SystemExit(f"bench: {target}, {protocol}, {clients} clients: not all queries succeeded\n{output}")
        return {
            "tps": float(re.search(r"tps = ([\d.]+)", output).group(1)),
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[len(latencies) * 99 // 100],
            "cpu": None if pid is None else (after - before) * 1e6 / queries,
        }

    # --- Processes.

    def as_account(self, command):
        change = []
        if self.account is not None:
            change = [f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--clear-groups"]
        return [*dies_with_parent("QUIT")[:-1], *change, "--", *command]

    def hand_over(self, path):
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def spawn(self, name, command):
        with open(self.home / f"{name}.log", "wb") as log:
            # Ctrl-C is for this script, which then ends its processes in order.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(), start_new_session=True
            )
        process.log_name = name
        self.processes.append(process)
        return process

    def wait_for(self, port, name, database=DATABASE):
        """Until a query is answered there."""
        process = next(process for process in self.processes if process.log_name == name)
        deadline = time.monotonic() + START_SECONDS_MAX
        command = [*self.client("psql"), "-X", "-q", "-A", "-t", "-d", url(port, database), "-c", "SELECT 1"]
        while True:
            try:
                asked = subprocess.run(command, capture_output=True, timeout=5, env=environment())
                if asked.returncode == 0:
                    return
                why = asked.stderr.decode(errors="replace")
            except subprocess.TimeoutExpired:
                why = "no answer"
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.home / f"{name}.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"bench: {name} does not serve: {why}\n{log}")
            time.sleep(0.05)

    def wait_for_reads(self, port):
        """Until a read is carried out by a replica."""
        deadline = time.monotonic() + START_SECONDS_MAX
        asked = ["-c", "SELECT count(*) FROM pgbench_branches", "-c", "SHOW pgweir.route"]
        while "|replica|" not in run([*self.client("psql"), "-X", "-q", "-A", "-t", "-d", url(port), *asked]):
            if time.monotonic() > deadline:
                raise SystemExit("bench: no read goes to a replica")
            time.sleep(0.05)

    def client(self, name):
        beside = self.postgres_bin / name
        return [str(beside if beside.is_file() else shutil.which(name) or name)]


def report(options, bench, runs):
    def median(target, case, figure):
        values = [single[figure] for single in runs.get((case, target), []) if single[figure] is not None]
        return statistics.median(values) if values else None

    print(f"\nselect-only, scale {options.scale}, one worker, pool {POOL_SIZE}; median of {options.rounds} rounds of {options.seconds} s each")
    if bench.pgbouncer_version:
        print(f"PgBouncer {bench.pgbouncer_version}", end="")
        if bench.session_for_prepared:
            print(": in session mode for `prepared`, with a server connection for each client, since it keeps no statements", end="")
        print()
    head = f"\n{'case':<14}{'target':<11}{'tps':>9}{'p50 us':>9}{'p99 us':>9}{'CPU us/query':>14}{'to PgBouncer':>14}"
    print(head + "\n" + "-" * (len(head) - 1))
    ratios = {}
    for case in dict.fromkeys(case for case, _ in runs):
        protocol, clients = case
        base = median("pgbouncer", case, "cpu")
        for target in options.targets:
            cpu = median(target, case, "cpu")
            ratio = cpu / base if cpu is not None and base else None
            if target == "pgweir" and ratio is not None:
                ratios.setdefault(protocol, []).append(ratio)
            figures = [f"{median(target, case, 'tps'):>9.0f}"]
            figures += [f"{median(target, case, figure):>9.0f}" for figure in ("p50", "p99")]
            figures.append(f"{'-':>14}" if cpu is None else f"{cpu:>14.1f}")
            figures.append(f"{'-':>14}" if ratio is None else f"{ratio:>14.2f}")
            print(f"{protocol + ' ' + str(clients):<14}{target:<11}" + "".join(figures))
    for protocol in dict.fromkeys(protocol for (protocol, _), _ in runs):
        cases = dict.fromkeys(case for case, _ in runs if case[0] == protocol)
        pairs = [(median("routed", case, "cpu"), median("pgweir", case, "cpu")) for case in cases]
        shares = [routed / plain for routed, plain in pairs if routed and plain]
        if shares:
            print(f"{protocol}: routed, CPU a query is {statistics.geometric_mean(shares):.2f} of that without replicas")
    for protocol, values in ratios.items():
        print(f"{protocol}: CPU a query is {statistics.geometric_mean(values):.2f} of PgBouncer's (geometric mean over the clients)")
    if options.json:
        singles = [
            {"protocol": protocol, "clients": clients, "target": target, "round": number, **single}
            for ((protocol, clients), target), several in runs.items()
            for number, single in enumerate(several, 1)
        ]
        options.json.write_text(json.dumps(singles, indent=1) + "\n")


def cpu_seconds(pid):
    """User and system time of all threads of a process."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unprivileged_account():
    """PostgreSQL and PgBouncer refuse to run as root."""
    if os.geteuid() != 0:
        return None
    for name in filter(None, [os.environ.get("PGWEIR_PG_USER"), "postgres", "nobody"]):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("bench: started as root, and there is no user `postgres` or `nobody`")


def postgres_bin():
    chosen = os.environ.get("PGWEIR_PG_BIN")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    places = [Path(chosen)] if chosen else [Path(place) for place in os.environ["PATH"].split(":")] + debian[::-1]
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return (place / "postgres").resolve().parent
    raise SystemExit("bench: no PostgreSQL server; install the package `postgresql`, or set PGWEIR_PG_BIN")


def dies_with_parent(death_signal):
    return ["setpriv", f"--pdeathsig={death_signal}", "--"]


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def url(port, database=DATABASE):
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"


def run(command, seconds_max=GRACE_SECONDS):
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=seconds_max, cwd="/", env=environment()
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"bench: {command[0]} took longer than {seconds_max} s")
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(map(str, command))} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def say(what):
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
