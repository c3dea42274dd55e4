"""Does what a page of the book tells its reader to do, in the page's order, in an empty folder.

    pages.py GHL-AUTH REPOSITORY PAGE…

Run are the blocks for a shell that `<!-- run -->` stands before. `<!-- run … -->` of several lines is run, too, and
is what a reader does beside the page: fill in a file, or be HighLevel. What a page shows behind a block that was
run has to be what it said, but for ids, times and numbers. A loopback of its own is best: see docs.sh.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

program, repository = sys.argv[1:3]
faults, done, compared = [], 0, 0

CRONTAB = """#!/bin/sh
f="$HOME/crontab"
case $1 in
    -l) cat "$f" 2> /dev/null || { echo 'no crontab for reader' >&2; exit 1; } ;;
    *) cat > "$f" ;;
esac
"""

# What a reader has beside the page: an app in HighLevel, here the sandbox, and a browser to consent in.
TOOLS = """
set -euo pipefail
highlevel() { # begins at 127.0.0.1:8791
    ghl-auth sandbox --listen 127.0.0.1:8791 > highlevel.log 2>&1 &
    for _ in $(seq 100); do curl -fsS -o /dev/null http://127.0.0.1:8791/_sandbox/env 2> /dev/null && return; sleep 0.1; done
    cat highlevel.log; return 1
}
redirect=https://example.com/oauth/callback
consent() { # the address that the browser shows afterwards
    curl -fsS http://127.0.0.1:8791/_sandbox/approve -d "{\\"redirect_uri\\":\\"$redirect\\"}" \
        | sed -E "s|.*\\"code\\": *\\"([^\\"]*)\\".*|$redirect?code=\\1|"
}
fill_in() { # an .env, with what stands in HighLevel
    curl -fsS http://127.0.0.1:8791/_sandbox/env | grep -E '^GHL_' > theirs
    while IFS='=' read -r name value; do
        [ "$name" != GHL_REDIRECT_URI ] || value=$redirect
        sed -i "/^$name=/d" .env
        echo "$name=$value" >> .env
    done < theirs
    rm theirs
}
template() { # ghl_tokens.json as the Python template leaves it, with an access token that has ended
    GHL_STORE=file:reply.json ghl-auth login --code "$(consent)" > /dev/null
    python3 - << 'PYTHON'
import json, pathlib
reply = json.loads(pathlib.Path("reply.json").read_text())
reply.pop("ghl_auth")
reply["expiry_timestamp"] = "2026-01-01T00:00:00"
pathlib.Path("ghl_tokens.json").write_text(json.dumps(reply, indent=4))
PYTHON
    rm -r reply.json*
}
"""


def parts(text):
    """What is run of a page, in its order: the commands, whether a reader sees them, and what they are said to say."""
    pattern = re.compile(
        r"^<!-- run\n(?P<beside>.*?)^-->$"
        r"|^<!-- run(?P<how>[^\n]*?)-->\n```sh\n(?P<block>.*?)^```$(?:\n\n```text\n(?P<said>.*?)^```$)?",
        re.M | re.S,
    )
    for found in pattern.finditer(text):
        if found["beside"] is not None:
            yield found["beside"], False, "", ""
        else:
            yield found["block"], True, found["how"].strip(), found["said"] or ""


def shape(line):
    """A line without what differs from run to run."""
    # Which scopes an app has is its owner's to say.
    line = re.sub(r"^(Scopes|Escopos): .*", r"\1:", line.strip())
    line = re.sub(r"\b[A-Za-z0-9]{20}\b", "ID", line)
    line = re.sub(r"\S*/[\w./-]+", "PATH", line)
    line = re.sub(r"\d+", "0", line)
    return re.sub(r"\s+", " ", line)


def play(page):
    global done, compared
    text = pathlib.Path(page).read_text()
    where = pathlib.Path(page).relative_to(repository)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ghl-auth-docs-"))
    tools = folder / "tools"
    here = folder / "here"
    tools.mkdir()
    here.mkdir(mode=0o700)
    (tools / "ghl-auth").symlink_to(program)
    (tools / "crontab").write_text(CRONTAB)
    (tools / "crontab").chmod(0o755)
    (folder / "log").touch()
    language = "pt-BR" if "pt-BR" in where.parts else "en"
    script = [TOOLS]
    blocks = []
    for commands, is_seen, how, said in parts(text):
        number = len(blocks)
        blocks.append((commands, said))
        commands = commands.replace("/opt/ghl-auth-microservice", str(here)).replace("/var/log/", f"{folder}/")
        # `<!-- run < COMMAND -->`: what is typed into the block.
        typed = f" < <({how[1:].strip()})" if how.startswith("<") else ""
        script.append(f"{{\necho 'BLOCK {number}'\n{commands}\n}}{typed} 2>&1")
        done += is_seen
    script.append("echo 'BLOCK END'\nkill $(jobs -p) 2> /dev/null || true\nwait")
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(folder),
        "REPOSITORY": repository,
        "GHL_AUTH_LANG": language,
        "NO_COLOR": "1",
    }
    try:
        ended = subprocess.run(
            ["bash", "-c", "\n".join(script)], cwd=here, env=environment, capture_output=True, text=True, timeout=180
        )
        out, status = ended.stdout, ended.returncode
        complaints = ended.stderr
    except subprocess.TimeoutExpired as late:
        out, status, complaints = (late.stdout or b"").decode(), "none", "it took longer than three minutes"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not blocks:
        faults.append(f"{where}: nothing of it is run")
    if "BLOCK END" not in out:
        faults.append(f"{where}: ended with {status}\n{out[-3000:]}{complaints}")
        return
    outputs = re.split(r"^BLOCK \w+$", out, flags=re.M)[1:]
    for (commands, said), output in zip(blocks, outputs):
        lines = {shape(line) for line in output.splitlines()}
        for line in filter(None, map(str.strip, said.splitlines())):
            compared += 1
            if shape(line) not in lines:
                faults.append(f"{where}: it shows `{line}`, and this says otherwise:\n{commands}{output}")


for page in sys.argv[3:]:
    play(page)
print(f"{done} blocks of commands were run, {compared} lines of what they say compared")
for fault in faults:
    print(f"FAILED  {fault}")
sys.exit(1 if faults or done < 10 or compared < 20 else 0)
