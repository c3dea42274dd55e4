"""What the benchmarks share: servers on one core and load on the other, and what the kernel knows of them."""

import contextlib
import datetime
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SERVER, LOAD = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
HOST = "127.0.0.1"


def free_port():
    with socket.socket() as it:
        it.bind((HOST, 0))
        return it.getsockname()[1]


def get(url, key=None, data=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers, data=data), timeout=30) as answer:
        return answer.read()


def until(holds, within=30):
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.002)
    sys.exit("something did not start")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


started = []


def start(command, folder=None, quiet=True):
    out = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    started.append(process)
    return process


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait(90)


# What the kernel knows of a process.


def family(pid):
    """The process and its children."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def cpu_nanoseconds(pid):
    """What all its threads have run so far."""
    files = (file for one in family(pid) for file in Path(f"/proc/{one}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files)


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


# The service.


class Service:
    def __init__(self, binary, folder, port, before=()):
        self.url = f"http://{HOST}:{port}"
        began = time.perf_counter()
        self.process = start([*SERVER, *before, binary, "serve"], folder)
        until(lambda: get(f"{self.url}/readyz"), 120)
        self.ready_after = time.perf_counter() - began

    @property
    def pid(self):
        return self.process.pid


def callgrind(out):
    """What stands before a program whose user instructions are counted into that file."""
    return ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"]


def instructions(out):
    """Of a whole life of the program that wrote it. One line for each process that wrote; here it is one."""
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.M)[1])


# Load.


def wrk(target, headers=(), connections=32, seconds=4):
    command = [*LOAD, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    said = run([*command, *(part for header in headers for part in ("-H", header)), target])
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(said)
    units = {"us": 1, "ms": 1e3, "s": 1e6}
    p50, p99 = (
        float(number) * units[unit]
        for number, unit in (re.search(rf"{q}%\s+([\d.]+)(us|ms|s)", said).groups() for q in (50, 99))
    )
    return int(re.search(r"(\d+) requests in", said)[1]), p50, p99


class Over(Exception):
    """A connection ended before its answer did."""


def read_answer(stream):
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = stream.recv(65536)
        if not piece:
            raise Over(answer)
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        sys.exit(answer[:400].decode(errors="replace"))
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    while len(body) < length:
        piece = stream.recv(65536)
        if not piece:
            raise Over(body)
        body += piece
    return head


def in_step(port, path, headers, count, connections=32):
    """Exactly so many requests, one on each connection at a time, for counting what each costs."""
    lines = "".join(f"{line}\r\n" for line in headers)
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{lines}\r\n".encode()
    streams = [socket.create_connection((HOST, port)) for _ in range(connections)]
    for stream in streams:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(count // connections):
        for stream in streams:
            stream.sendall(request)
        for stream in streams:
            read_answer(stream)
    for stream in streams:
        stream.close()


def system_calls(pid, load):
    """What a process and its children ask of the system while there is a load, by name; None where nobody may look."""
    named = [part for one in family(pid) for part in ("-p", str(one))]
    watcher = subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", *named], stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    if watcher.poll() is not None:
        return None
    load()
    watcher.send_signal(signal.SIGINT)
    said = watcher.communicate(timeout=30)[1]
    rows = re.findall(r"^\s*(\d+)\s+(\w+)\s*$", said, re.M)
    return {name: int(calls) for calls, name in rows if name != "total"}


# Where it was.


def version(*command):
    said = subprocess.run(command, capture_output=True, text=True)
    return re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)[0]


def machine(load=None):
    """With the load of the last five minutes, or the one that was noted."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{datetime.date.today()}, {os.cpu_count()} × {name}, Linux {platform.release()}, load {load or os.getloadavg()[1]:.1f}"
