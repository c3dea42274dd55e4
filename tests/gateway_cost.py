"""Counts the gateway's system calls per request. Called by gateway_cost.sh."""

import multiprocessing
import socket
import sys
import threading
from pathlib import Path

from house import LOCATION, House
from measure import HOST, Over, in_step, started, stop, system_calls

FOLDER, BINARY = Path(sys.argv[1]), sys.argv[2]
AT_MOST = 4.2
FEW, MORE = 1024, 5120
BODY = f'{{"location":{{"id":"{LOCATION}"}},"notes":"{"n" * 1000}"}}'.encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def serve_one(stream):
    read = b""
    while piece := stream.recv(65536):
        read += piece
        while b"\r\n\r\n" in read:
            _, _, read = read.partition(b"\r\n\r\n")
            stream.sendall(ANSWER)


def upstream(listener):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve_one, args=(stream,), daemon=True).start()


listener = socket.create_server((HOST, 0), backlog=128)
there = multiprocessing.Process(target=upstream, args=(listener,), daemon=True)
there.start()
try:
    house = House(BINARY, FOLDER / "house", f"http://{HOST}:{listener.getsockname()[1]}").open()
    load = house.port, "/gateway/contacts/AbCdEfGhIjKlMnOpQrSt", house.headers
    in_step(*load, 256)
    few, more = (system_calls(house.pid, lambda count=count: in_step(*load, count)) for count in (FEW, MORE))
except Over:
    sys.exit("the gateway ended a connection in the middle of an answer")
finally:
    for process in reversed(started):
        if process.poll() is None:
            stop(process)
    there.terminate()

if few is None or more is None:
    print("skipped: nobody may watch another process here, so system calls were not counted")
    sys.exit(0)
each = {name: (more[name] - few.get(name, 0)) / (MORE - FEW) for name in more}
total = sum(each.values())
named = ", ".join(f"{name} {count:.2f}" for name, count in sorted(each.items(), key=lambda it: -it[1]) if count >= 0.01)
print(f"{total:.2f} system calls per request, {AT_MOST} at the most: {named}")
sys.exit(total > AT_MOST)
