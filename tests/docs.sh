#!/bin/bash
# Renders the book in both languages, follows every link inside it, asks the program whether it understands each
# command that the book and the READMEs name, and does what the first pages tell a reader to do.
#
#   tests/docs.sh [GHL-AUTH]        default: ghl-auth of the last build
#
# What an address on the network holds is not looked at.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
find_program "${1:-}"

version=0.5.4
tool=$target/tools/mdbook
[ "$("$tool/bin/mdbook" --version 2> /dev/null)" = "mdbook v$version" ] \
    || cargo install mdbook --version "$version" --locked --no-default-features --force --root "$tool" --quiet

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for language in en pt-BR; do
    "$tool/bin/mdbook" build "$repository/docs/$language" --dest-dir "$work/$language" > "$work/log" 2>&1 \
        || { cat "$work/log" >&2; exit 1; }
    if grep -E 'WARN|ERROR' "$work/log"; then
        echo "mdbook complains of docs/$language" >&2
        exit 1
    fi
done

# The program is asked for the help of each command with all its options: it reads what stands before
# --help first, and says what it does not know. No command is run.
cd "$work"
env -i PATH="$PATH" python3 - "$repository" "$work" "$program" << 'END'
import pathlib, re, shlex, subprocess, sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

repository, rendered = (pathlib.Path(argument) for argument in sys.argv[1:3])
program = sys.argv[3]
faults, links, commands, names = [], 0, 0, 0


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]


pages = {path: Page(path) for path in rendered.rglob("*.html")}
for path, page in pages.items():
    # It stands for any address, so its links are none from here; and one page holds the whole book.
    if path.name in ("404.html", "toc.html", "print.html"):
        continue
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        links += 1
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not there.is_file():
            faults.append(f"{path.relative_to(rendered)}: {link} leads nowhere")
        elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
            faults.append(f"{path.relative_to(rendered)}: {link} leads to no such place")


def told(text):
    """The commands of a page: in blocks for a shell, and between backticks."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        # A line that goes on.
        yield from () if kind not in ("", "sh", "text") else block.replace("\\\n", " ").splitlines()
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from (code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", text) if code.startswith("ghl-auth"))


def understood(arguments):
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    asked = subprocess.run([program, *arguments, "--help"], capture_output=True, text=True, env={"GHL_AUTH_LANG": "en"})
    return asked.returncode == 0 and asked.stdout.lstrip().find("Usage:") >= 0


texts = sorted(repository.glob("docs/*/src/*.md")) + [repository / "README.md", repository / "README.pt-BR.md"]
known = set(re.findall(r"\b(?:GHL|MICROSERVICE|RUN)_[A-Z_]+", (repository / ".env.example").read_text()))
known |= {name.removesuffix("_FILE") for name in known}
# What `exec` and the examples give a program, and what stands for a family of names.
known |= {"GHL_ACCESS_TOKEN", "GHL_APP_BILLING_HEARTBEAT_URL"}
for path in texts:
    text = path.read_text()
    where = path.relative_to(repository)
    for line in told(text):
        for found in re.finditer(r"(?<![\w./-])(?:\./)?ghl-auth((?:[ \t]+(?:'[^']*'|\"[^\"]*\"|\$\w+|[^\s'\"|&;()<>#$`]+|\$\(.*?\)))*)", line):
            before = line[: found.start()].split()
            # A unit, or an image to build.
            if before and before[-1] in ("-u", "-t"):
                continue
            try:
                arguments = shlex.split(found[1])
            except ValueError:
                faults.append(f"{where}: {line.strip()} can't be read")
                continue
            # Sentences of the program and of the book that go on behind the name.
            if "…" in arguments:
                arguments = arguments[: arguments.index("…")]
            commands += 1
            placeholders = {"CAMINHO": "PATH", "COMANDO": "check", "COMMAND": "check"}
            arguments = [re.sub(r"^\$\w+$", "ID", placeholders.get(argument, argument)) for argument in arguments]
            if arguments != ["--version"] and not understood(arguments):
                faults.append(f"{where}: the program does not understand: ghl-auth {' '.join(arguments)}")
    for name in set(re.findall(r"\bGHL_[A-Z_]+[A-Z]\b", text)):
        names += 1
        if name not in known:
            faults.append(f"{where}: there is no {name} in .env.example")

print(f"{len(pages)} pages, {links} links, {commands} commands, {names} names of settings")
for fault in faults:
    print(f"FAILED  {fault}")
sys.exit(1 if faults or links < 200 or commands < 100 or names < 50 else 0)
END

# The pages name ports, so they have a loopback of their own where that can be had.
apart=()
for flags in -n -rn; do
    if [ ${#apart[@]} -eq 0 ] && unshare "$flags" ip link set lo up 2> /dev/null; then
        # shellcheck disable=SC2016  # the inner shell's
        apart=(unshare "$flags" sh -c 'ip link set lo up && exec "$@"' sh)
    fi
done
pages=("$repository"/docs/*/src/{quick-start,moving}.md)
"${apart[@]}" python3 "$repository/tests/docs/pages.py" "$program" "$repository" "${pages[@]}"
