#!/bin/bash
# Takes the book's pictures anew, in both languages: the browser's tests look at every page, and
# those that the book shows are cut to one screen and made small.
#
#   docs/pictures.sh                 every picture that a page of the book names
#   docs/pictures.sh FOLDER          from a folder of screenshots (SCREENSHOTS=FOLDER tests/dashboard.sh, console.sh)
#
# A page that is to be shown is named in the Markdown first: ![Keys](pictures/keys.png), or keys-dark.png. The tests
# don't run this: look at what changed, and commit what you like.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
version=13.0.0
tools=$target/tools/pictures-$version
if ! [ -e "$tools/complete" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" -q install --disable-pip-version-check "pillow==$version"
    touch "$tools/complete"
fi

shots=${1:-}
if [ -z "$shots" ]; then
    shots=$(mktemp -d)
    trap 'rm -rf "$shots"' EXIT
    SCREENSHOTS=$shots "$repository/tests/dashboard.sh"
    SCREENSHOTS=$shots "$repository/tests/console.sh"
fi

"$tools/bin/python" - "$repository" "$shots" << 'END'
import pathlib, re, sys
from PIL import Image

repository, shots = map(pathlib.Path, sys.argv[1:])
# One screen of the page, at the size that a page of the book has room for, and its rare colours among the others.
SCREEN, SHOWN, COLOURS = (1440, 900), (1080, 675), 64

taken, missing = [], []
for book in sorted(repository.glob("docs/*/src")):
    language = book.parent.name
    pages = [page.read_text() for page in sorted(book.glob("*.md"))]
    names = sorted({name for page in pages for name in re.findall(r"\]\(pictures/([\w-]+)\.png\)", page)})
    for name in names:
        page, scheme = (name.removesuffix("-dark"), "dark") if name.endswith("-dark") else (name, "light")
        shot = shots / f"{page}-{language}-{scheme}-{SCREEN[0]}.png"
        picture = book / "pictures" / f"{name}.png"
        if not shot.exists():
            missing.append(f"{picture.relative_to(repository)}: there is no {shot.name}")
            continue
        image = Image.open(shot).convert("RGB")
        screen = Image.new("RGB", SCREEN, image.getpixel((0, image.height - 1)))
        screen.paste(image.crop((0, 0, SCREEN[0], min(SCREEN[1], image.height))))
        small = screen.resize(SHOWN, Image.LANCZOS).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        picture.parent.mkdir(exist_ok=True)
        small.save(picture, optimize=True)
        taken.append(picture)
    for left in (book / "pictures").glob("*.png"):
        if left.stem not in names:
            missing.append(f"{left.relative_to(repository)}: no page of the book shows it")

for picture in taken:
    print(f"{picture.relative_to(repository)}  {picture.stat().st_size // 1024} kB")
for complaint in missing:
    print(f"MISSING  {complaint}")
sys.exit(1 if missing or not taken else 0)
END
