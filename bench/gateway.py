"""Measures the gateway beside nginx and Node's http-proxy. Called by gateway.sh."""

import json
import os
import random
import re
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

from house import LOCATION, TOKEN, House
from measure import (
    HOST, LOAD, SERVER, cpu_nanoseconds, free_port, in_step, get, machine, resident_kib, start, started, stop, system_calls,
    until, version, wrk,
)

FOLDER, BINARY, ROUNDS, SECONDS = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])
CONNECTIONS = 32
NODE_ROUNDS = 3
PATH = "/contacts/AbCdEfGhIjKlMnOpQrSt"
NGINX_KEY = "ghlk_" + "k" * 43
NGINX_HEADERS = [f"Authorization: Bearer {NGINX_KEY}", f"X-Location-Id: {LOCATION}"]
BODY = json.dumps({"location": {"id": LOCATION}, "contact": {"id": "AbCdEfGhIjKlMnOpQrSt", "notes": "n" * 1010}})
# As HighLevel names them; high enough for what is loaded here.
LIMITS = {
    "x-ratelimit-max": 1_000_000_000, "x-ratelimit-remaining": 999_999_999, "x-ratelimit-interval-milliseconds": 10_000,
    "x-ratelimit-limit-daily": 2_000_000_000, "x-ratelimit-daily-remaining": 1_999_999_779, "x-ratelimit-daily-reset": 49_013_000,
}

ENDLESS = "access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;"


def nginx(name, http, core=SERVER, before=(), master="on"):
    (FOLDER / f"{name}.conf").write_text(
        f"""user root; worker_processes 1; master_process {master}; pid {name}.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ {ENDLESS} client_header_buffer_size 16k; large_client_header_buffers 4 32k;
{http}
}}
"""
    )
    return start([*core, *before, "nginx", "-p", str(FOLDER), "-c", f"{name}.conf", "-g", "daemon off;"])


def upstream(port_plain, port_tls, port_two):
    tls = f"ssl_certificate {FOLDER}/leaf.pem; ssl_certificate_key {FOLDER}/key.pem; ssl_protocols TLSv1.3;"
    answer = "".join(f"add_header {name} {value};" for name, value in LIMITS.items())
    answer = f"location / {{ default_type application/json; {answer} return 200 '{BODY}'; }}"
    return f"""
server {{ listen {HOST}:{port_plain}; {answer} }}
server {{ listen {HOST}:{port_tls} ssl; {tls} {answer} }}
server {{ listen {HOST}:{port_two} ssl http2; {tls} {answer} }}
"""


def proxy(port, scheme, to):
    # nginx takes no word of its configuration that is longer than 4 KB.
    half = len(TOKEN) // 2
    secure = f"""proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate {FOLDER}/ca.pem;"""
    return f"""
map $http_authorization $known {{ default 0; "Bearer {NGINX_KEY}" 1; }}
map "" $first {{ default "{TOKEN[:half]}"; }}
map "" $second {{ default "{TOKEN[half:]}"; }}
map_hash_bucket_size 256;
upstream highlevel {{ server {HOST}:{to}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }}
server {{
    listen {HOST}:{port};
    location / {{
        if ($known = 0) {{ return 401; }}
        proxy_pass {scheme}://highlevel; proxy_http_version 1.1;
        proxy_set_header Connection ""; proxy_set_header Host localhost; proxy_set_header X-Location-Id "";
        proxy_set_header Authorization "Bearer $first$second"; proxy_set_header Version 2021-07-28;
        {secure if scheme == "https" else ""}
    }}
}}
"""


NODE = """
const http = require('http'), crypto = require('crypto'), httpProxy = require('http-proxy');
const [port, to, key, token] = process.argv.slice(2);
const known = new Set([crypto.createHash('sha256').update(key).digest('hex')]);
const proxy = httpProxy.createProxyServer({ target: to, agent: new http.Agent({ keepAlive: true, maxSockets: 256 }) });
http.createServer((request, answer) => {
  const shown = (request.headers.authorization || '').slice(7);
  if (!known.has(crypto.createHash('sha256').update(shown).digest('hex'))) { answer.writeHead(401); return answer.end(); }
  request.headers.authorization = 'Bearer ' + token;
  request.headers.version = '2021-07-28';
  delete request.headers['x-location-id'];
  proxy.web(request, answer, {}, () => { answer.writeHead(502); answer.end(); });
}).listen(Number(port), '127.0.0.1');
"""


class Relay:
    """Passes bytes on to a port of this machine and counts them."""

    def __init__(self, to):
        self.to, self.up, self.down = to, 0, 0
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            caller, _ = self.listener.accept()
            there = socket.create_connection((HOST, self.to))
            threading.Thread(target=self.carry, args=(caller, there, "up"), daemon=True).start()
            threading.Thread(target=self.carry, args=(there, caller, "down"), daemon=True).start()

    def carry(self, one, other, way):
        while piece := one.recv(65536):
            setattr(self, way, getattr(self, way) + len(piece))
            other.sendall(piece)
        other.close()


def bytes_on_the_wire(scheme, to, http):
    """Bytes to and from the upstream for each request, on connections that are open."""
    relay = Relay(to)
    house = House(
        BINARY, FOLDER / f"relay{relay.port}", f"{scheme}://localhost:{relay.port}", GHL_AUTH_GATEWAY_HTTP=http
    ).open()
    in_step(house.port, f"/gateway{PATH}", house.headers, 64, 4)
    time.sleep(1)
    up, down = relay.up, relay.down
    in_step(house.port, f"/gateway{PATH}", house.headers, 512, 4)
    time.sleep(0.2)
    stop(house.process)
    return (relay.up - up) / 512, (relay.down - down) / 512


def instructions(open_, port, path, headers, count):
    """User instructions of a whole life with so many requests, and the file that tells where they went."""
    out = FOLDER / f"callgrind.{port}.{count}"
    process = open_(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"])
    in_step(port, path, headers, 256)
    time.sleep(2)
    in_step(port, path, headers, count)
    stop(process)
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.M)[1])


def per_request(open_, port, path, headers, few=1024, more=5120):
    """Start-up cancels out."""
    counts = [instructions(open_, port, path, headers, count) for count in (few, more)]
    return (counts[1] - counts[0]) / (more - few)


def calls_per_request(pid, port, path, headers, few=1024, more=5120):
    counts = [system_calls(pid, lambda count=count: in_step(port, path, headers, count)) for count in (few, more)]
    if None in counts:
        return None
    totals = [sum(one.values()) for one in counts]
    return (totals[1] - totals[0]) / (more - few)


os.chdir(FOLDER)
try:
    plain, tls, two = (free_port() for _ in range(3))
    nginx("upstream", upstream(plain, tls, two), LOAD)
    until(lambda: get(f"http://{HOST}:{plain}{PATH}"))

    houses = {
        "plain": House(BINARY, FOLDER / "plain", f"http://localhost:{plain}").open(),
        "enforce": House(BINARY, FOLDER / "enforce", f"http://localhost:{plain}", GHL_AUTH_GATEWAY_BUDGET="enforce").open(),
        "tls": House(BINARY, FOLDER / "tls", f"https://localhost:{tls}").open(),
        "two": House(BINARY, FOLDER / "two", f"https://localhost:{two}", GHL_AUTH_GATEWAY_HTTP="2").open(),
    }
    proxies = {}
    for name, scheme, to in [("plain", "http", plain), ("tls", "https", tls)]:
        port = free_port()
        proxies[name] = (port, nginx(f"proxy-{name}", proxy(port, scheme, to)))
        until(lambda port=port: get(f"http://{HOST}:{port}{PATH}", NGINX_KEY))

    def ours(house, connections):
        return house.pid, lambda: wrk(f"{house.url}/gateway{PATH}", house.headers, connections, SECONDS)

    def theirs(name, connections):
        port, process = proxies[name]
        return process.pid, lambda: wrk(f"http://{HOST}:{port}{PATH}", NGINX_HEADERS, connections, SECONDS)

    targets = {}
    for count in (CONNECTIONS, 1):
        targets |= {
            ("ghl-auth", "plain", count): ours(houses["plain"], count),
            ("ghl-auth, enforce", "plain", count): ours(houses["enforce"], count),
            ("nginx", "plain", count): theirs("plain", count),
            ("ghl-auth", "TLS 1.3", count): ours(houses["tls"], count),
            ("ghl-auth, HTTP/2", "TLS 1.3", count): ours(houses["two"], count),
            ("nginx", "TLS 1.3", count): theirs("tls", count),
        }
    direct = {"plain": f"http://{HOST}:{plain}{PATH}", "TLS 1.3": f"https://localhost:{tls}{PATH}"}
    for over, url in direct.items():
        targets["upstream alone", over, 1] = (os.getpid(), lambda url=url: wrk(url, (), 1, SECONDS))
    if (FOLDER / "node_modules").exists():
        (FOLDER / "proxy.js").write_text(NODE)
        port = free_port()
        node = start([*SERVER, "node", "proxy.js", str(port), f"http://localhost:{plain}", NGINX_KEY, TOKEN])
        until(lambda: get(f"http://{HOST}:{port}{PATH}", NGINX_KEY))
        for count in (CONNECTIONS, 1):
            targets["Node http-proxy", "plain", count] = (
                node.pid, lambda count=count: wrk(f"http://{HOST}:{port}{PATH}", NGINX_HEADERS, count, SECONDS)
            )

    rounds = []
    for number in range(ROUNDS + 1):
        figures = {}
        for name in random.sample(list(targets), len(targets)):
            if name[0].startswith("Node") and number > NODE_ROUNDS:
                continue
            pid, load = targets[name]
            before, began = cpu_nanoseconds(pid), time.perf_counter()
            done, p50, p99 = load()
            took, cpu = time.perf_counter() - began, cpu_nanoseconds(pid) - before
            figures[name] = {"cpu": cpu / done / 1e3, "p50": p50, "p99": p99, "rate": done / took}
        # The first round warms up.
        if number:
            rounds.append(figures)
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
    resident = resident_kib(houses["plain"].pid)

    calls = {
        "ghl-auth": calls_per_request(houses["plain"].pid, houses["plain"].port, f"/gateway{PATH}", houses["plain"].headers),
        "nginx": calls_per_request(proxies["plain"][1].pid, proxies["plain"][0], PATH, NGINX_HEADERS),
    }
    wire = {
        "HTTP/1.1, plain": bytes_on_the_wire("http", plain, "1.1"),
        "HTTP/1.1, TLS 1.3": bytes_on_the_wire("https", tls, "1.1"),
        "HTTP/2, TLS 1.3": bytes_on_the_wire("https", two, "2"),
    }

    counted = House(BINARY, FOLDER / "counted", f"http://localhost:{plain}")
    counted_port = free_port()

    def counted_nginx(before):
        process = nginx("counted-nginx", proxy(counted_port, "http", plain), SERVER, before, "off")
        until(lambda: get(f"http://{HOST}:{counted_port}{PATH}", NGINX_KEY), 60)
        return process

    instructed = {
        "ghl-auth": per_request(lambda before: counted.open(before).process, counted.port, f"/gateway{PATH}", counted.headers),
        "nginx": per_request(counted_nginx, counted_port, PATH, NGINX_HEADERS),
    }
    if kept := os.environ.get("GHL_AUTH_CALLGRIND"):
        Path(kept).write_bytes((FOLDER / f"callgrind.{counted.port}.5120").read_bytes())
finally:
    for process in reversed(started):
        if process.poll() is None:
            stop(process)


def middle(name, figure):
    return statistics.median(one[name][figure] for one in rounds if name in one)


def ratio(name, figure):
    """To nginx over the same upstream, within each round, so that what disturbed one disturbed the other."""
    other = ("nginx", *name[1:])
    return statistics.median(one[name][figure] / one[other][figure] for one in rounds if name in one)


def added(name):
    alone = ("upstream alone", name[1], 1)
    return statistics.median(one[name]["p50"] - one[alone]["p50"] for one in rounds if name in one)


def shown(number, form):
    return "not seen" if number is None else format(number, form)


print(f"""
{machine()}
ghl-auth {version(BINARY, '--version')} ({os.path.getsize(BINARY) / 1e6:.1f} MB), nginx {version('nginx', '-v')}, \
wrk {version('wrk', '-v')}, valgrind {version('valgrind', '--version')}, strace {version('strace', '--version')}
a bearer of {len(TOKEN)} bytes, answers of {len(BODY)}, {ROUNDS} rounds of {SECONDS} s: medians; ratios are of the same round

| {CONNECTIONS} connections | upstream | CPU per request | of nginx | requests/s | of nginx | p50 | p99 |
| --- | --- | --- | --- | --- | --- | --- | --- |""")
for name in sorted((it for it in targets if it[2] == CONNECTIONS), key=lambda it: (it[1], it[0])):
    print(
        f"| {name[0]} | {name[1]} | {middle(name, 'cpu'):.1f} µs | {ratio(name, 'cpu'):.2f} | {middle(name, 'rate'):.0f} "
        f"| {ratio(name, 'rate'):.2f} | {middle(name, 'p50'):.0f} µs | {middle(name, 'p99'):.0f} µs |"
    )
print("""
| one connection | upstream | CPU per request | of nginx | p50 | added to the upstream's | p99 |
| --- | --- | --- | --- | --- | --- | --- |""")
for name in sorted((it for it in targets if it[2] == 1), key=lambda it: (it[1], it[0])):
    if name[0] == "upstream alone":
        print(f"| {name[0]} | {name[1]} | | | {middle(name, 'p50'):.0f} µs | | {middle(name, 'p99'):.0f} µs |")
        continue
    print(
        f"| {name[0]} | {name[1]} | {middle(name, 'cpu'):.1f} µs | {ratio(name, 'cpu'):.2f} "
        f"| {middle(name, 'p50'):.0f} µs | {added(name):.0f} µs | {middle(name, 'p99'):.0f} µs |"
    )
print("""
| per request | ghl-auth | nginx | goal |
| --- | --- | --- | --- |""")
print(f"| user instructions | {instructed['ghl-auth']:.0f} | {instructed['nginx']:.0f} | 22,000 |")
print(f"| system calls | {shown(calls['ghl-auth'], '.2f')} | {shown(calls['nginx'], '.2f')} | 4.2 |")
print("""
| bytes on the wire per request | to the upstream | from it |
| --- | --- | --- |""")
for name, (up, down) in wire.items():
    print(f"| {name} | {up:.0f} | {down:.0f} |")
print(f"\nresident after the load: {resident / 1024:.1f} MiB")
