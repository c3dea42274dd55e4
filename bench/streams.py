"""Streams long bodies through the gateway and through nginx. Called by streams.sh.

Upstream and callers are this process and one more: both give and take pieces of 256 KiB as fast as they can."""

import multiprocessing
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from house import LOCATION, House
from measure import HOST, free_port, get, machine, start, started, stop, until, version

FOLDER, BINARY, STREAMS, MIB = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])
LENGTH = MIB << 20
PIECE = bytes(256 << 10)


def read_head(stream):
    """A head, and what came behind it."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = stream.recv(65536)
        if not piece:
            return None, b""
        read += piece
    head, _, rest = read.partition(b"\r\n\r\n")
    return head.decode(), rest


def give(stream, length):
    while length:
        piece = PIECE if length >= len(PIECE) else PIECE[:length]
        stream.sendall(piece)
        length -= len(piece)


def take(stream, length):
    room = bytearray(256 << 10)
    while length > 0:
        count = stream.recv_into(room)
        if not count:
            raise SystemExit(f"{length} bytes did not come")
        length -= count


def length_of(head):
    found = re.search(r"content-length: (\d+)", head.lower())
    return int(found[1]) if found else 0


def serve_one(stream):
    while True:
        head, rest = read_head(stream)
        if head is None:
            return
        take(stream, length_of(head) - len(rest))
        if head.startswith("GET /down"):
            stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {LENGTH}\r\n\r\n".encode())
            give(stream, LENGTH)
        else:
            body = f'{{"location":{{"id":"{LOCATION}"}}}}'
            stream.sendall(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )


def upstream(listener):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve_one, args=(stream,), daemon=True).start()


def down(port, path, headers):
    with socket.create_connection((HOST, port)) as stream:
        stream.sendall(f"GET {path}down HTTP/1.1\r\nHost: {HOST}:{port}\r\n{headers}\r\n".encode())
        head, rest = read_head(stream)
        if not head.startswith("HTTP/1.1 200") or length_of(head) != LENGTH:
            raise SystemExit(head)
        take(stream, LENGTH - len(rest))


def up(port, path, headers):
    with socket.create_connection((HOST, port)) as stream:
        stream.sendall(
            f"POST {path}up HTTP/1.1\r\nHost: {HOST}:{port}\r\n{headers}Content-Length: {LENGTH}\r\n\r\n".encode()
        )
        give(stream, LENGTH)
        head, _ = read_head(stream)
        if not head.startswith("HTTP/1.1 200"):
            raise SystemExit(head)


def rate(way, *where):
    began = time.perf_counter()
    with ThreadPoolExecutor(STREAMS) as several:
        list(several.map(lambda _: way(*where), range(STREAMS)))
    return STREAMS * LENGTH / (time.perf_counter() - began) / 1e6


def at_most_kib(pids):
    return sum(int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) for pid in pids)


listener = socket.create_server((HOST, 0), backlog=128)
there = multiprocessing.Process(target=upstream, args=(listener,), daemon=True)
there.start()
to = listener.getsockname()[1]
try:
    house = House(BINARY, FOLDER / "house", f"http://{HOST}:{to}").open()
    ours = house.port, "/gateway/", "".join(f"{line}\r\n" for line in house.headers)
    port = free_port()
    (FOLDER / "nginx.conf").write_text(
        f"""user root; worker_processes 1; pid nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_max_body_size 0;
    server {{ listen {HOST}:{port}; location / {{
        proxy_pass http://{HOST}:{to}; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_buffering off; proxy_request_buffering off;
    }} }}
}}
"""
    )
    nginx = start(["taskset", "-c", "0", "nginx", "-p", str(FOLDER), "-c", "nginx.conf", "-g", "daemon off;"])
    until(lambda: get(f"http://{HOST}:{port}/"))
    before = at_most_kib([house.pid])
    rates = {}
    for name, where in [("ghl-auth", ours), ("nginx", (port, "/", ""))]:
        rates[name] = []
        for way in (down, up):
            rates[name].append(rate(way, *where))
            if name == "ghl-auth":
                rates[name].append(at_most_kib([house.pid]))
finally:
    for process in reversed(started):
        if process.poll() is None:
            stop(process)
    there.terminate()

(down_, kib_down, up_, kib_up), (nginx_down, nginx_up) = rates["ghl-auth"], rates["nginx"]
print(f"""
{machine()}
ghl-auth {version(BINARY, '--version')} ({os.path.getsize(BINARY) / 1e6:.1f} MB), nginx {version('nginx', '-v')}
{STREAMS} streams of {MIB} MiB at once, one way after the other; {before / 1024:.1f} MiB at the most before them

| | ghl-auth | nginx | of nginx | memory at the most | goal |
| --- | --- | --- | --- | --- | --- |
| down | {down_:.0f} MB/s | {nginx_down:.0f} MB/s | {down_ / nginx_down:.2f} | {kib_down / 1024:.1f} MiB | 100 MB |
| up | {up_:.0f} MB/s | {nginx_up:.0f} MB/s | {up_ / nginx_up:.2f} | {kib_up / 1024:.1f} MiB | 100 MB |""")
