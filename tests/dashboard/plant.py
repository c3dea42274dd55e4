"""Gives a store and its records the names of hostile.json, as they would come from HighLevel, from whoever makes keys
and from whoever calls: plant.py STORE NAMES. The rows that are added have no tokens; only lists show them."""

import hashlib, json, sqlite3, sys, time

store, names = sys.argv[1], json.load(open(sys.argv[2]))
now = int(time.time() * 1000)

with sqlite3.connect(store) as rows:
    rows.row_factory = sqlite3.Row
    one = dict(rows.execute("SELECT * FROM installations").fetchone())
    del one["number"]
    insert = f"INSERT INTO installations ({', '.join(one)}) VALUES ({', '.join('?' * len(one))})"
    for number, name in enumerate(names):
        rows.execute(insert, list({**one, "id": f"hostile{number}", "name": name, "checked_at": now, "check_health": "operational"}.values()))
    rows.execute("UPDATE installations SET name = ? WHERE id = ?", (names[0], one["id"]))

with sqlite3.connect(store + ".records.db") as rows:
    rows.row_factory = sqlite3.Row
    for number, name in enumerate(names):
        key = dict(rows.execute("SELECT * FROM keys").fetchone())
        key.update(id=f"key{number}", name=name, hash=hashlib.sha256(f"{number}".encode()).digest(), used_at=now, used_from=name)
        rows.execute(f"INSERT INTO keys ({', '.join(key)}) VALUES ({', '.join('?' * len(key))})", list(key.values()))
        # What was found and told holds HighLevel's own words.
        rows.execute("INSERT INTO checks VALUES ('location', ?, ?, 1, 'clock', 'down', ?, ?, '[]')", (one["id"], now + number, name, name))
        rows.execute("INSERT INTO notices VALUES (?, ?, 'location', ?, 'trouble', 'down', ?, ?, ?)", (f"notice{number}", now + number, one["id"], now, name, name))
        rows.execute("INSERT INTO deliveries VALUES (?, 'webhook', 1, ?, NULL, ?)", (f"notice{number}", now + 10**9, name))
        rows.execute("INSERT OR REPLACE INTO standings VALUES ('location', ?, 1, 'down', ?, 1, ?, ?, 'down', ?, '[]')", (f"hostile{number}", now + number, name, name, now))
    rows.execute("UPDATE counters SET value = value + 1 WHERE name = 'keys'")
