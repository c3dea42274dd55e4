"""Runs the three programs in turn and prints what each needs. Called by check.sh."""

import json
import os
import statistics
import subprocess
import sys
import time

ROUNDS, BINARY, PYTHON, BASE, CA = int(sys.argv[1]), *sys.argv[2:6]

settings = dict(
    line.strip().split("=", 1) for line in open(".env") if "=" in line and not line.startswith("#")
)
settings = {name: value.strip('"') for name, value in settings.items()}
contact = f"{BASE}/contacts/{settings['GHL_HEALTH_CHECK_CONTACT_ID']}"
tag = json.dumps({"tags": [settings["GHL_HEALTH_CHECK_TAG_NAME"]]})
token = json.load(open("ghl_tokens.json"))["access_token"]

# curl makes the same two requests over one connection, in one process.
with open("curl.conf", "w") as conf:
    trust = f'cacert = "{CA}"\n' if CA else ""
    common = f'{trust}header = "Authorization: Bearer {token}"\nheader = "Version: 2021-07-28"\n'
    conf.write(f'silent\noutput = "/dev/null"\nfail\nurl = "{contact}"\n{common}next\n')
    conf.write(
        f'silent\noutput = "/dev/null"\nfail\nurl = "{contact}/tags"\n{common}'
        f"header = \"Content-Type: application/json\"\ndata = {json.dumps(tag)}\n"
    )

# The template's few calls, written anew: load the file, read the contact, add the tag.
with open("template.py", "w") as script:
    script.write(f"""
import json, datetime, requests
tokens = json.load(open("ghl_tokens.json"))
assert datetime.datetime.now() < datetime.datetime.fromisoformat(tokens["expiry_timestamp"])
headers = {{"Authorization": "Bearer " + tokens["access_token"], "Version": "2021-07-28"}}
requests.get("{contact}", headers=headers, verify={CA!r} or True).raise_for_status()
requests.post("{contact}/tags", headers=headers, json={tag}, verify={CA!r} or True).raise_for_status()
""")

PROGRAMS = {
    "ghl-auth": [BINARY, "check"],
    "curl": ["curl", "--config", "curl.conf"],
    "python": [PYTHON, "template.py"],
}


# Both outputs to nowhere; spawned, because forking a Python costs more than the program that follows.
QUIET = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]


def run(command):
    """Wall and CPU seconds of one process."""
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=QUIET)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status != 0:
        sys.exit(f"{command[0]} failed with status {status}")
    return wall, usage.ru_utime + usage.ru_stime


def peak(command):
    """Peak MiB. GNU time starts it, since a child of this process would count this process's memory."""
    try:
        told = subprocess.run(
            ["/usr/bin/time", "-f", "%M", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
        ).stderr
    except FileNotFoundError:
        return float("nan")
    return int(told.split()[-1]) / 1024


samples = {name: [] for name in PROGRAMS}
for number in range(ROUNDS):
    for name, command in PROGRAMS.items():
        if name == "python" and number % 4:
            continue
        if number % 10 == 0:
            time.sleep(0.5)
        samples[name].append(run(command))

medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in samples.items()}
print(f"{'':10} {'wall ms':>9} {'CPU ms':>9} {'peak MiB':>9}   (medians of {ROUNDS} interleaved rounds)")
for name, (wall, cpu) in medians.items():
    print(f"{name:10} {wall * 1000:9.2f} {cpu * 1000:9.2f} {peak(PROGRAMS[name]):9.1f}")
ours = medians["ghl-auth"]
print(f"wall: {ours[0] / medians['curl'][0]:.2f} of curl, 1/{medians['python'][0] / ours[0]:.0f} of Python")
