"""Measures the token endpoint beside nginx and redis-server. Called by token.sh."""

import concurrent.futures
import datetime
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import measure
from measure import (
    HOST, LOAD, SERVER, Service, callgrind, cpu_nanoseconds, free_port, get, machine, resident_kib, run, start, started,
    stop, until, version,
)

FOLDER, BINARY, ROUNDS, SECONDS, MANY = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
CONNECTIONS = 32
REFRESHES_A_SECOND = 50
KEY = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="


# The service.


def settings(folder, base_url, port, meant):
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(
        f"""GHL_CLIENT_ID={meant['GHL_CLIENT_ID']}
GHL_CLIENT_SECRET={meant['GHL_CLIENT_SECRET']}
GHL_REDIRECT_URI=http://127.0.0.1:8788/oauth/callback
GHL_LOCATION_ID={meant['GHL_LOCATION_ID']}
GHL_API_BASE_URL={base_url}
GHL_STORE=sqlite:tokens.db
GHL_AUTH_KEY={KEY}
GHL_AUTH_LISTEN={HOST}:{port}
GHL_AUTH_LOG=warn
"""
    )
    (folder / ".env").chmod(0o600)


def import_many(folder, count):
    """Grants as the Python template leaves them, of so many locations."""
    token = json.loads(get(url, key))["access_token"]
    ends = (datetime.datetime.now() + datetime.timedelta(hours=23)).isoformat()

    def import_one(number):
        grant = {
            "access_token": token, "token_type": "Bearer", "expires_in": 86399, "refresh_token": f"r{number}-" + "r" * 60,
            "scope": "locations.readonly", "userType": "Location", "companyId": "company", "userId": "user",
            "locationId": f"location{number}", "expiry_timestamp": ends,
        }
        file = folder / f"{number}.json"
        file.write_text(json.dumps(grant))
        file.chmod(0o600)
        run([BINARY, "import", file.name], cwd=folder)
        file.unlink()

    # The first makes the store.
    import_one(0)
    with concurrent.futures.ThreadPoolExecutor(4) as several:
        list(several.map(import_one, range(1, count)))


# Load.


def wrk(target, headers=()):
    return measure.wrk(target, headers, CONNECTIONS, SECONDS)


def redis_benchmark(port, count):
    command = [*LOAD, "redis-benchmark", "-h", HOST, "-p", str(port), "-c", str(CONNECTIONS), "-n", str(count), "--csv"]
    lines = run([*command, "get", "token"]).splitlines()
    row = dict(zip(*(json.loads(f"[{line}]") for line in lines[-2:])))
    return count, float(row["p50_latency_ms"]) * 1e3, float(row["p99_latency_ms"]) * 1e3


class Refreshing:
    """Refreshes of another installation of the same service, so many a second."""

    def __init__(self, target):
        self.target, self.done, self.going = target, 0, True
        self.thread = threading.Thread(target=self.work)

    def work(self):
        os.sched_setaffinity(0, {1})  # this thread's own
        generation = json.loads(get(self.target, key))["generation"]
        due = time.monotonic()
        while self.going:
            # Nobody is promised a whole day, so that this always refreshes.
            answer = json.loads(get(f"{self.target}?minimum_life=86400", key))
            self.done += answer["generation"] > generation
            generation = answer["generation"]
            due = max(due + 1 / REFRESHES_A_SECOND, time.monotonic() - 0.5)
            time.sleep(max(0, due - time.monotonic()))

    def __enter__(self):
        self.began = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()
        self.rate = self.done / (time.monotonic() - self.began)


def instructions(count):
    """User instructions of a whole life of the service with so many requests."""
    port = free_port()
    settings(FOLDER / "one", sandbox, port, meant)
    out = FOLDER / f"callgrind.{count}"
    service = Service(BINARY, FOLDER / "one", port, callgrind(out))
    # What the service does at its start, slowly here, has to be over: a connection that has once asked for
    # a token that was not at hand is served the long way for as long as it lasts.
    for _ in range(4):
        get(f"{service.url}{path}", key)
        time.sleep(1)
    measure.in_step(port, path, [f"Authorization: Bearer {key}"], count, CONNECTIONS)
    stop(service.process)
    return measure.instructions(out)


os.chdir(FOLDER)
try:
    # A HighLevel, with one location and one company.
    sandbox_port = free_port()
    start([*LOAD, BINARY, "sandbox", "--listen", f"{HOST}:{sandbox_port}"])
    sandbox = f"http://{HOST}:{sandbox_port}"
    until(lambda: get(f"{sandbox}/_sandbox"))
    get(f"{sandbox}/_sandbox/limits", data=b'{"enforced":false}')
    lines = get(f"{sandbox}/_sandbox/env").decode().splitlines()
    meant = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines) if name.isupper()}

    def code(user_type):
        wanted = {"redirect_uri": "http://127.0.0.1:8788/oauth/callback", "user_type": user_type}
        return json.loads(get(f"{sandbox}/_sandbox/approve", data=json.dumps(wanted).encode()))["code"]

    one, port = FOLDER / "one", free_port()
    settings(one, sandbox, port, meant)
    run([BINARY, "login", "--code", code("Location")], cwd=one)

    # How soon it is ready, with one installation.
    readies = []
    for _ in range(7):
        service = Service(BINARY, one, port)
        readies.append(service.ready_after)
        stop(service.process)

    key = run([BINARY, "keys", "create", "--name", "bench", "--all"], cwd=one).split()[-1]
    service = Service(BINARY, one, port)
    location = meant["GHL_LOCATION_ID"]
    path = f"/v1/locations/{location}/token"
    url = f"{service.url}{path}"
    bytes_ = get(url, key)
    wrk(url, [f"Authorization: Bearer {key}"])
    alone_kib = resident_kib(service.pid)

    # The company's installation is there to be refreshed.
    stop(service.process)
    run([BINARY, "login", "--code", code("Company")], cwd=one, env={**os.environ, "GHL_USER_TYPE": "Company"})
    service = Service(BINARY, one, port)
    company = next(
        it["id"] for it in json.loads(get(f"{service.url}/v1/installations", key))["installations"] if it["kind"] == "company"
    )

    # nginx with a file of the same bytes, at its best; a second one with what is usually advised.
    (FOLDER / "token").write_bytes(bytes_)
    nginx_ports = [free_port() for _ in range(3)]
    nginx = []
    for name, listen, how in [
        ("nginx", nginx_ports[0], "sendfile off;"),
        ("nginx-sendfile", nginx_ports[1], "sendfile on; tcp_nopush on; open_file_cache max=100 inactive=1h;"),
    ]:
        (FOLDER / f"{name}.conf").write_text(
            f"""user root; worker_processes 1; pid {name}.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 1h;
    {how}
    server {{ listen {HOST}:{listen}; root {FOLDER}; }}
}}
"""
        )
        nginx.append(start([*SERVER, "nginx", "-p", str(FOLDER), "-c", f"{name}.conf", "-g", "daemon off;"]))
        until(lambda: get(f"http://{HOST}:{listen}/token") == bytes_)

    redis_port = free_port()
    command = [*SERVER, "redis-server", "--port", str(redis_port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    redis = start(command)
    cli = ["redis-cli", "-p", str(redis_port)]
    until(lambda: subprocess.run([*cli, "ping"], capture_output=True).stdout == b"PONG\n")
    subprocess.run([*cli, "-x", "set", "token"], input=bytes_, stdout=subprocess.DEVNULL, check=True)

    refreshing_rates = []

    def while_refreshing():
        with Refreshing(f"{service.url}/v1/companies/{company}/token") as refreshing:
            time.sleep(0.2)
            figures = wrk(url, [f"Authorization: Bearer {key}"])
        refreshing_rates.append(refreshing.rate)
        return figures

    redis_count = [20_000]

    def with_redis():
        began = time.perf_counter()
        figures = redis_benchmark(redis_port, redis_count[0])
        # As long as the others, next time.
        redis_count[0] = max(20_000, int(redis_count[0] * SECONDS / (time.perf_counter() - began)))
        return figures

    targets = {
        "ghl-auth": (service.pid, lambda: wrk(url, [f"Authorization: Bearer {key}"])),
        "ghl-auth while refreshing": (service.pid, while_refreshing),
        "nginx": (nginx[0].pid, lambda: wrk(f"http://{HOST}:{nginx_ports[0]}/token")),
        "nginx, sendfile and file cache": (nginx[1].pid, lambda: wrk(f"http://{HOST}:{nginx_ports[1]}/token")),
        "redis-server": (redis.pid, with_redis),
    }
    rounds = []
    for number in range(ROUNDS + 1):
        figures = {}
        for name in random.sample(list(targets), len(targets)):
            pid, load = targets[name]
            before, began = cpu_nanoseconds(pid), time.perf_counter()
            done, p50, p99 = load()
            took, cpu = time.perf_counter() - began, cpu_nanoseconds(pid) - before
            figures[name] = {"cpu": cpu / done / 1e3, "p50": p50, "p99": p99, "rate": done / took}
        # The first round warms up.
        if number:
            rounds.append(figures)
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
    stop(service.process)

    # Ten thousand, over a HighLevel that says yes to each check.
    stub = nginx_ports[2]
    (FOLDER / "stub.conf").write_text(
        f"""user root; worker_processes 1; pid stub.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type application/json;
    server {{ listen {HOST}:{stub}; location ~ ^/locations/(.*)$ {{ return 200 '{{"location":{{"id":"$1"}}}}'; }} }}
}}
"""
    )
    start([*LOAD, "nginx", "-p", str(FOLDER), "-c", "stub.conf", "-g", "daemon off;"])
    many = FOLDER / "many"
    one_service = Service(BINARY, one, port)
    settings(many, f"http://{HOST}:{stub}", free_port(), meant)
    print(f"importing {MANY} installations", file=sys.stderr)
    import_many(many, MANY)
    stop(one_service.process)
    many_port = free_port()
    settings(many, f"http://{HOST}:{stub}", many_port, meant)
    key_of_one, key = key, run([BINARY, "keys", "create", "--name", "bench", "--all"], cwd=many).split()[-1]
    service = Service(BINARY, many, many_port)
    counts = re.compile(r'^ghl_auth_checks_total\{.*\} (\d+)', re.M)
    until(lambda: sum(map(int, counts.findall(get(f"{service.url}/metrics").decode()))) >= MANY, 900)
    for number in range(MANY):
        get(f"{service.url}/v1/locations/location{number}/token", key)
    many_kib = resident_kib(service.pid)
    stop(service.process)
    key = key_of_one

    # Start-up cancels out.
    few, more = 1024, 5120
    per_request = (instructions(more) - instructions(few)) / (more - few)
finally:
    for process in reversed(started):
        if process.poll() is None:
            stop(process)


def middle(name, figure):
    return statistics.median(one[name][figure] for one in rounds)


def ratio(name, other, figure="cpu"):
    """Within each round, so that what disturbed one disturbed the other."""
    return statistics.median(one[name][figure] / one[other][figure] for one in rounds)


print(f"""
{machine()}
ghl-auth {version(BINARY, '--version')} ({os.path.getsize(BINARY) / 1e6:.1f} MB), nginx {version('nginx', '-v')}, \
redis {version('redis-server', '--version')}, wrk {version('wrk', '-v')}, valgrind {version('valgrind', '--version')}
a token of {len(json.loads(bytes_)['access_token'])} bytes, answers of {len(bytes_)}, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s: medians; ratios are of the same round

| | CPU per request | of nginx | of redis | p50 | p99 | requests/s |
| --- | --- | --- | --- | --- | --- | --- |""")
for name in targets:
    print(
        f"| {name} | {middle(name, 'cpu'):.1f} µs | {ratio(name, 'nginx'):.2f} | {ratio(name, 'redis-server'):.2f} "
        f"| {middle(name, 'p50'):.0f} µs | {middle(name, 'p99'):.0f} µs | {middle(name, 'rate'):.0f} |"
    )
print(f"""
| of ghl-auth | measured | goal |
| --- | --- | --- |
| CPU of nginx's | {ratio('ghl-auth', 'nginx'):.2f} | 0.75 |
| CPU of redis-server's | {ratio('ghl-auth', 'redis-server'):.2f} | 0.95 |
| p99 of nginx's | {ratio('ghl-auth', 'nginx', 'p99'):.2f} | 1 |
| p99 while {statistics.median(refreshing_rates):.0f} refreshes/s run, of p99 without | \
{ratio('ghl-auth while refreshing', 'ghl-auth', 'p99'):.2f} | 2 |
| user instructions per request | {per_request:.0f} | 13,000 |
| ready after, one installation | {statistics.median(readies) * 1e3:.0f} ms | 150 ms |
| resident, one installation | {alone_kib / 1024:.1f} MiB | 40 MB |
| resident, {MANY} cached | {many_kib / 1024:.1f} MiB, {(many_kib - alone_kib) / MANY:.1f} KiB each | 40 MB + 12 KB each |""")
