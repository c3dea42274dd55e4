"""When the first byte of each of the dashboard's pages comes, over a store of many: see dashboard.sh."""

import datetime
import http.client
import json
import random
import sqlite3
import statistics
import sys
import time
from pathlib import Path

import measure
from house import House
from measure import HOST, free_port, run, stop

folder, binary, installations, checks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TIMES = 50
chance = random.Random(7)

# Nobody answers there, and nobody is asked: all that is due was done just now.
house = House(binary, folder / "house", f"http://{HOST}:{free_port()}")
ends = (datetime.datetime.now() + datetime.timedelta(hours=23)).isoformat()
lines = house.folder / "grants.jsonl"
with lines.open("w") as file:
    for number in range(installations):
        grant = {
            "access_token": f"access-{number}-{'x' * 600}", "token_type": "Bearer", "expires_in": 86399,
            "refresh_token": f"refresh-{number}", "scope": "locations.readonly contacts.readonly", "userType": "Location",
            "companyId": f"company{number % 300}", "userId": "user", "locationId": f"location{number}", "expiry_timestamp": ends,
        }
        file.write(json.dumps(grant) + "\n")
lines.chmod(0o600)
print(f"importing {installations} installations", file=sys.stderr)
run([binary, "import", lines.name], cwd=house.folder)
lines.unlink()

now = int(time.time() * 1000)
# Older ones are not kept.
kept = 89 * 24 * 3600 * 1000
with sqlite3.connect(house.folder / "tokens.db") as store:
    store.execute("UPDATE installations SET checked_at = ?, check_health = 'operational', name = 'Location ' || number", (now,))
with sqlite3.connect(house.folder / "tokens.db.records.db") as records:
    steps = json.dumps([["read", True, 120, "t"]])
    records.executemany(
        "INSERT INTO checks (kind, id, at, took_ms, cause, health, code, said, steps) VALUES ('location', ?, ?, ?, 'clock', ?, NULL, NULL, ?)",
        ((f"location{chance.randrange(installations)}", now - chance.randrange(kept), chance.randrange(80, 900),
          "down" if chance.random() < 0.01 else "operational", steps) for _ in range(checks)))
    records.executemany(
        "INSERT OR REPLACE INTO standings VALUES ('location', ?, 1, ?, ?, 0, NULL, NULL, 'operational', NULL, '[]')",
        ((f"location{number}", "down" if number % 1000 == 0 else "operational", now - number) for number in range(installations)))

service = house.open()
try:
    link = run([binary, "dashboard", "--json"], cwd=house.folder)
    secret = json.loads(link)["url"].split("link=")[1]
    connection = http.client.HTTPConnection(HOST, house.port)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    connection.request("POST", "/sign-in", f"link={secret}", form)
    answer = connection.getresponse()
    answer.read()
    cookie = answer.getheader("set-cookie").split(";")[0]

    def ask(path):
        began = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        first = time.perf_counter() - began
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body)
        return first, len(body)

    dress = sum(ask(f"/assets/{name}")[1] for name in ("dashboard.css", "dashboard.js", "icon.svg"))
    print(f"\n{measure.machine()}  \nghl-auth {Path(binary).stat().st_size / 1e6:.1f} MB, SQLite; {installations} installations, {checks} checks of 90 days, {TIMES} times each\n")
    print("| page | first byte, median | 99 % | with everything |\n| --- | --- | --- | --- |")
    for name, path in [
        ("overview (goal 50 ms, 150 kB)", "/"), ("installations", "/installations"),
        ("installations, those to be authorized", "/installations?state=broken"),
        ("installations, by name", "/installations?q=Location+99"), ("installations, a name that nobody has", "/installations?q=nobody"),
        ("one installation", "/installations/location/location77"), ("notices", "/notices"), ("keys", "/keys"),
    ]:
        times, size = zip(*(ask(path) for _ in range(TIMES)))
        times = sorted(times)
        print(f"| {name} | {statistics.median(times) * 1e3:.1f} ms | {times[int(len(times) * 0.99)] * 1e3:.1f} ms | {(size[-1] + dress) / 1e3:.0f} kB |")
finally:
    stop(service.process)
