"""Measures the gateway beside nginx and Node's http-proxy. Called by gateway.sh."""

import contextlib
import json
import os
import random
import re
import secrets
import statistics
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import measure
from house import LOCATION, TOKEN, House
from measure import (
    HOST, LOAD, SERVER, callgrind, cpu_nanoseconds, free_port, get, in_step, machine, resident_kib, run, start, started,
    stop, until, version, wrk,
)

FOLDER, BINARY, ROUNDS, SECONDS = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])
# Node is slow and steady: one round in so many is enough.
NODE_EVERY = 3
# Of nginx and Node: as long as ours are.
THEIR_KEY = "ghlk_" + secrets.token_urlsafe(32)
THEIR_HEADERS = [f"Authorization: Bearer {THEIR_KEY}", f"X-Location-Id: {LOCATION}"]
PATH = "/contacts/ocQHyuzHvysMo5N5VsXc"
CONTACT = json.dumps(
    {"contact": {"id": "ocQHyuzHvysMo5N5VsXc", "locationId": LOCATION, "tags": ["lead"] * 20, "note": "n" * 840}}
)


# HighLevel's place: one contact of 1.1 KB, with HighLevel's rate limit headers. The limits are larger than HighLevel's,
# since a machine asks more often than HighLevel lets one.


def highlevel(name, plain, tls, tls2):
    (FOLDER / f"{name}.conf").write_text(
        f"""user root; worker_processes 1; pid {name}.pid; error_log /dev/null;
events {{ worker_connections 2048; }}
http {{
    access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_body_temp_path {FOLDER}; large_client_header_buffers 4 16k; tcp_nodelay on;
    ssl_certificate {FOLDER}/leaf.pem; ssl_certificate_key {FOLDER}/key.pem; ssl_protocols TLSv1.3;
    add_header x-ratelimit-max 1000000000; add_header x-ratelimit-remaining 999999999;
    add_header x-ratelimit-interval-milliseconds 10000; add_header x-ratelimit-limit-daily 4000000000;
    add_header x-ratelimit-daily-remaining 3999999999; add_header x-ratelimit-daily-reset 49013000;
    server {{
        listen {HOST}:{plain}; listen {HOST}:{tls} ssl; listen {HOST}:{tls2} ssl http2; server_name localhost;
        location /contacts/ {{ return 200 '{CONTACT}'; }}
        location /shown {{ return 200 '$http_version $http_authorization'; }}
        location ~ ^/locations/(.*)$ {{ return 200 '{{"location":{{"id":"$1"}}}}'; }}
    }}
}}
"""
    )
    process = start([*LOAD, "nginx", "-p", str(FOLDER), "-c", f"{name}.conf", "-g", "daemon off;"])
    until(lambda: get(f"http://{HOST}:{plain}{PATH}"))
    return process


# Who carries.


class Ours(House):
    """The service, its store and its key."""

    def __init__(self, base_url, before=(), **how):
        super().__init__(BINARY, FOLDER / f"house{free_port()}", base_url, **how)
        self.open(before)
        self.workers = [self.pid]


class Nginx:
    """nginx with what is advised: connections to HighLevel that are kept, and a key that is looked up in a map."""

    key, headers = THEIR_KEY, THEIR_HEADERS

    def __init__(self, base_url, before=(), alone=False):
        self.port = free_port()
        name = f"nginx{self.port}"
        scheme, origin = base_url.split("://")
        tls = "proxy_ssl_protocols TLSv1.3; proxy_ssl_name localhost; proxy_ssl_server_name on;" if scheme == "https" else ""
        # A line of its configuration holds 4 KB at most.
        half = len(TOKEN) // 2
        (FOLDER / f"{name}.conf").write_text(
            f"""user root; worker_processes 1; pid {name}.pid; error_log /dev/null;
{'master_process off;' if alone else ''}
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; map_hash_bucket_size 256;
    client_body_temp_path {FOLDER}; proxy_temp_path {FOLDER}; tcp_nodelay on;
    map $http_authorization $first {{ default ""; "Bearer {THEIR_KEY}" {TOKEN[:half]}; }}
    map $http_authorization $second {{ default ""; "Bearer {THEIR_KEY}" {TOKEN[half:]}; }}
    map $http_version $api_version {{ default $http_version; "" 2021-07-28; }}
    upstream highlevel {{
        server {origin.replace('localhost', HOST)}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h;
    }}
    server {{
        listen {HOST}:{self.port};
        location /gateway/ {{
            if ($first = "") {{ return 401; }}
            proxy_pass {scheme}://highlevel/; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer $first$second"; proxy_set_header Version $api_version; {tls}
        }}
    }}
}}
"""
        )
        self.process = start(
            [*SERVER, *before, "nginx", "-p", str(FOLDER), "-c", f"{name}.conf", "-g", "daemon off;"]
        )
        until(lambda: self.answers(), 120)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.workers = [int(child) for child in children.split()] or [self.process.pid]

    def answers(self):
        return get(f"http://{HOST}:{self.port}/gateway{PATH}", self.key)


class Node:
    """http-proxy with an agent that keeps connections; it hashes the key, as we do."""

    key, headers = THEIR_KEY, THEIR_HEADERS

    def __init__(self, base_url):
        self.port = free_port()
        script = FOLDER / f"node{self.port}.js"
        script.write_text(
            f"""const http = require('http'), https = require('https'), fs = require('fs'), crypto = require('crypto');
const target = '{base_url}';
const how = {{ keepAlive: true, maxSockets: 256, ca: fs.readFileSync('{FOLDER}/ca.pem') }};
const agent = target.startsWith('https') ? new https.Agent(how) : new http.Agent(how);
const proxy = require('http-proxy').createProxyServer({{ target, agent, changeOrigin: true }});
proxy.on('error', (_, __, answer) => {{ answer.statusCode = 502; answer.end(); }});
const hash = (key) => crypto.createHash('sha256').update(key).digest('hex');
const tokens = new Map([[hash('Bearer {THEIR_KEY}'), '{TOKEN}']]);
http.createServer((request, answer) => {{
    const token = tokens.get(hash(request.headers.authorization || ''));
    if (!token) {{ answer.statusCode = 401; return answer.end(); }}
    request.url = request.url.slice('/gateway'.length);
    request.headers.authorization = 'Bearer ' + token;
    request.headers.version ??= '2021-07-28';
    proxy.web(request, answer);
}}).listen({self.port}, '{HOST}');
"""
        )
        self.process = start([*SERVER, "node", str(script)])
        until(lambda: get(f"http://{HOST}:{self.port}/gateway{PATH}", self.key))
        self.workers = [self.process.pid]


class Direct:
    """Nobody between: what HighLevel's place does alone."""

    def __init__(self, base_url):
        self.url, self.workers = base_url, [upstream.pid]


# Counting.


def see_that_it_carries(name, it):
    """The token, the version and the answer arrive, and a wrong key does not get by."""
    at = f"http://{HOST}:{it.port}/gateway"
    shown = get(f"{at}/shown", it.key).decode()
    assert shown == f"2021-07-28 Bearer {TOKEN}", f"{name}: {shown[:60]}"
    assert get(f"{at}{PATH}", it.key).decode() == CONTACT, name
    with contextlib.suppress(urllib.error.HTTPError):
        get(f"{at}{PATH}", it.key[:-4] + "AAAA")
        sys.exit(f"{name} lets a wrong key by")


def ask(it, number):
    in_step(it.port, f"/gateway{PATH}", it.headers, number)


def difference(count, few=1024, more=5120):
    """What one request costs: start-up and what runs beside cancel out."""
    return (count(more) - count(few)) / (more - few)


def instructions(kind, number):
    out = FOLDER / f"callgrind.{kind.__name__}.{number}"
    it = kind(plain, callgrind(out), **({"alone": True} if kind is Nginx else {}))
    # What a service does at its start, slowly here, has to be over.
    for _ in range(4):
        get(f"http://{HOST}:{it.port}/gateway{PATH}", it.key)
        time.sleep(1)
    ask(it, number)
    stop(it.process)
    return measure.instructions(out)


def calls(it):
    """The system calls of a request, by strace; None where nobody may watch another process."""
    ask(it, 320)

    def count(number):
        named = measure.system_calls(it.process.pid, lambda: ask(it, number))
        if named is None:
            raise PermissionError
        return sum(named.values())

    with contextlib.suppress(PermissionError):
        return difference(count)


def bytes_on_the_wire(it, port, number=3200):
    """What of TCP's contents goes to HighLevel's place and comes back for a request, by the kernel's count."""

    def count():
        # Waits until what is on its way has been counted.
        time.sleep(0.3)
        rows = run(["ss", "-tinHO", "state", "established", f"( dport = :{port} )"])
        return [sum(map(int, re.findall(rf"{what}:(\d+)", rows))) for what in ("bytes_sent", "bytes_received")]

    ask(it, 320)
    before = count()
    ask(it, number)
    return [(now - then) / number for now, then in zip(count(), before)]


def one_load(it, connections):
    if isinstance(it, Direct):
        target, headers = f"{it.url}{PATH}", [f"Authorization: Bearer {TOKEN}"]
    else:
        target, headers = f"http://{HOST}:{it.port}/gateway{PATH}", it.headers
    before, began = sum(map(cpu_nanoseconds, it.workers)), time.perf_counter()
    done, p50, p99 = wrk(target, headers, connections, SECONDS)
    took, cpu = time.perf_counter() - began, sum(map(cpu_nanoseconds, it.workers)) - before
    return {"cpu": cpu / done / 1e3, "p50": p50, "p99": p99, "rate": done / took}


try:
    ports = [free_port() for _ in range(3)]
    plain, tls, tls2 = f"http://{HOST}:{ports[0]}", f"https://localhost:{ports[1]}", f"https://localhost:{ports[2]}"
    upstream = highlevel("highlevel", *ports)

    # Each beside the nginx that goes to the same place, or to the same over HTTP/1.1.
    carriers = {
        "plain": {
            "ghl-auth": Ours(plain),
            "ghl-auth, enforcing": Ours(plain, GHL_AUTH_GATEWAY_BUDGET="enforce"),
            "nginx": Nginx(plain),
            "Node http-proxy": Node(plain),
        },
        "TLS": {
            "ghl-auth": Ours(tls),
            "ghl-auth, enforcing": Ours(tls, GHL_AUTH_GATEWAY_BUDGET="enforce"),
            "ghl-auth, HTTP/2": Ours(tls2, GHL_AUTH_GATEWAY_HTTP="2"),
            "nginx": Nginx(tls),
            "Node http-proxy": Node(tls),
        },
    }
    for place, them in carriers.items():
        for name, it in them.items():
            see_that_it_carries(f"{name}, {place}", it)
    carriers["plain"]["direct"], carriers["TLS"]["direct"] = Direct(plain), Direct(tls)

    loads = [
        (place, name, it, connections)
        for place, them in carriers.items() for name, it in them.items() for connections in (32, 1)
    ]
    rounds = []
    for number in range(ROUNDS + 1):
        figures = {}
        for place, name, it, connections in random.sample(loads, len(loads)):
            if isinstance(it, Node) and (number + NODE_EVERY - 1) % NODE_EVERY:
                continue
            figures[place, name, connections] = one_load(it, connections)
        # The first round warms up.
        if number:
            rounds.append(figures)
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
    load = os.getloadavg()[1]

    counted = {
        name: {
            "system calls": calls(it),
            "resident": sum(map(resident_kib, it.workers)) / 1024,
        }
        for name, it in carriers["plain"].items() if name in ("ghl-auth", "ghl-auth, enforcing", "nginx")
    }
    wire = {
        (name, place): bytes_on_the_wire(carriers[place][name], port)
        for name, place, port in [
            ("ghl-auth", "plain", ports[0]), ("nginx", "plain", ports[0]), ("ghl-auth", "TLS", ports[1]),
            ("nginx", "TLS", ports[1]), ("ghl-auth, HTTP/2", "TLS", ports[2]),
        ]
    }
    for them in carriers.values():
        for it in them.values():
            if not isinstance(it, Direct):
                stop(it.process)
    print("counting instructions", file=sys.stderr)
    for name, kind in {"ghl-auth": Ours, "nginx": Nginx}.items():
        counted[name]["instructions"] = difference(lambda number: instructions(kind, number))
    if os.environ.get("FUNCTIONS"):
        last = FOLDER / "callgrind.Ours.5120"
        Path(os.environ["FUNCTIONS"] + ".callgrind").write_bytes(last.read_bytes())
        said = run(["callgrind_annotate", "--inclusive=yes", "--threshold=99", str(last)])
        own = run(["callgrind_annotate", "--threshold=90", str(last)])
        Path(os.environ["FUNCTIONS"]).write_text(f"{said}\n\n{own}\n")
finally:
    for process in reversed(started):
        if process.poll() is None:
            stop(process)


def over_rounds(figure):
    """The median of the rounds in which it was measured."""
    values = []
    for one in rounds:
        with contextlib.suppress(KeyError):
            values.append(figure(one))
    return statistics.median(values) if values else float("nan")


def middle(place, name, connections, figure):
    return over_rounds(lambda one: one[place, name, connections][figure])


def ratio(place, name, connections, figure, other="nginx"):
    """Within each round, so that what disturbed one disturbed the other."""
    return over_rounds(lambda one: one[place, name, connections][figure] / one[place, other, connections][figure])


def added(place, name):
    """To the median of direct requests, by one connection, in the same round."""
    return over_rounds(lambda one: one[place, name, 1]["p50"] - one[place, "direct", 1]["p50"])


def added_of_nginx(place, name):
    return over_rounds(
        lambda one: (one[place, name, 1]["p50"] - one[place, "direct", 1]["p50"])
        / (one[place, "nginx", 1]["p50"] - one[place, "direct", 1]["p50"])
    )


def shown(figure, form):
    return "not counted" if figure is None else format(figure, form)


print(f"""
{machine(load)}
ghl-auth {version(BINARY, '--version')} ({os.path.getsize(BINARY) / 1e6:.1f} MB), nginx {version('nginx', '-v')}, \
Node {version('node', '--version')} with http-proxy 1.18.1, wrk {version('wrk', '-v')}, \
valgrind {version('valgrind', '--version')}, strace {version('strace', '--version')}
a token of {len(TOKEN)} bytes, answers of {len(CONTACT)}, {ROUNDS} rounds of {SECONDS} s: medians; ratios are of the same round
""")
for place, them in carriers.items():
    print(f"""| {place} to HighLevel, 32 connections | CPU per request | of nginx | requests/s | of nginx | p50 | p99 |
| --- | --- | --- | --- | --- | --- | --- |""")
    for name in them:
        if name != "direct":
            print(
                f"| {name} | {middle(place, name, 32, 'cpu'):.1f} µs | {ratio(place, name, 32, 'cpu'):.2f} "
                f"| {middle(place, name, 32, 'rate'):.0f} | {ratio(place, name, 32, 'rate'):.2f} "
                f"| {middle(place, name, 32, 'p50'):.0f} µs | {middle(place, name, 32, 'p99'):.0f} µs |"
            )
    print(f"""
| {place} to HighLevel, 1 connection | p50 | p99 | added to direct | of what nginx adds | CPU of nginx's |
| --- | --- | --- | --- | --- | --- |""")
    for name in them:
        more = "| | | |" if name == "direct" else (
            f"| {added(place, name):.0f} µs | {added_of_nginx(place, name):.2f} | {ratio(place, name, 1, 'cpu'):.2f} |"
        )
        print(f"| {name} | {middle(place, name, 1, 'p50'):.0f} µs | {middle(place, name, 1, 'p99'):.0f} µs {more}")
    print()
print("""| for one request, plain | user instructions | system calls | resident |
| --- | --- | --- | --- |""")
for name, it in counted.items():
    print(
        f"| {name} | {shown(it.get('instructions'), ',.0f')} | {shown(it['system calls'], '.2f')} "
        f"| {it['resident']:.1f} MiB |"
    )
print("""
| bytes to and from HighLevel for one request | sent | received |
| --- | --- | --- |""")
for (name, place), (sent, received) in wire.items():
    print(f"| {name}, {place} | {sent:.0f} | {received:.0f} |")
print(f"""
| of ghl-auth | measured | goal |
| --- | --- | --- |
| CPU of nginx's, plain; enforcing | {ratio('plain', 'ghl-auth', 32, 'cpu'):.2f}; \
{ratio('plain', 'ghl-auth, enforcing', 32, 'cpu'):.2f} | 0.90 |
| CPU of nginx's, TLS; enforcing | {ratio('TLS', 'ghl-auth', 32, 'cpu'):.2f}; \
{ratio('TLS', 'ghl-auth, enforcing', 32, 'cpu'):.2f} | 0.90 |
| requests/s of nginx's, plain; TLS | {ratio('plain', 'ghl-auth', 32, 'rate'):.2f}; \
{ratio('TLS', 'ghl-auth', 32, 'rate'):.2f} | 1 |
| what it adds at one connection, of what nginx adds, plain; TLS | {added_of_nginx('plain', 'ghl-auth'):.2f}; \
{added_of_nginx('TLS', 'ghl-auth'):.2f} | 1 |
| user instructions per request | {shown(counted['ghl-auth']['instructions'], ',.0f')} | 22,000 |
| system calls per request | {shown(counted['ghl-auth']['system calls'], '.2f')} | 4.2 |""")
