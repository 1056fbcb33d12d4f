"""Takes the pictures of the README: verdict and first matrix of a report, in light and dark.

    spillover demo
    python docs/pictures.py spillover-demo

It needs nothing but Chromium (`chromium`, `chromium-browser` or `google-chrome`, or what CHROMIUM names). It writes
docs/pictures/page-light.png and docs/pictures/page-dark.png.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURES = Path(__file__).with_name("pictures")
SCHEMES = {"light": 1, "dark": 0}  # as Chromium's setting counts them
WIDTH = 1280
MOST_BYTES = 260_000
AFTER = '<section id="examples"'  # the first section that is not in the picture
# so that the rest fits on one screen
LEFT_OUT = "nav, .eyebrow, header .note, #matrix > p, #short > :not(h2, .ships), #matrix .scroll ~ .scroll"
STYLE = f"<style>{LEFT_OUT} {{display: none}} header, section {{margin-block: 0; padding-block: 1rem}}</style>"
MEASURE = '<script>addEventListener("load", () => {document.title = "height=" + document.body.scrollHeight})</script>'


def browser() -> str:
    """The path of Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit(f"no Chromium here; install one of {', '.join(names)}, or set CHROMIUM")
    return found


def chromium(*options: str) -> str:
    """What a headless Chromium prints. As root, as in a container, it runs only without its sandbox."""
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking")
    done = subprocess.run([browser(), *quiet, *options], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def top_of(page: str) -> str:
    """The page without the sections after the matrix, and without the rule that forbids other styles and scripts."""
    before, found, _ = page.partition(AFTER)
    if not found:
        sys.exit(f"the page has no {AFTER}")
    return re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", before) + "</main>" + STYLE + MEASURE


def take(folder: Path) -> list[Path]:
    """One picture for each colour scheme, from the report in `folder`."""
    PICTURES.mkdir(exist_ok=True)
    taken = []
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        page.write_text(top_of((folder / "report.html").read_text("utf-8")), "utf-8")
        url = page.as_uri()
        dom = chromium(f"--window-size={WIDTH},100", "--dump-dom", url)
        height = re.search(r"<title>height=(\d+)", dom)
        if height is None:
            sys.exit("Chromium does not say how high the page is")
        for scheme, number in SCHEMES.items():
            path = PICTURES / f"page-{scheme}.png"
            setting = f"--blink-settings=preferredColorScheme={number}"
            chromium(setting, f"--window-size={WIDTH},{height[1]}", f"--screenshot={path}", url)
            if path.stat().st_size > MOST_BYTES:
                print(f"{path.name} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}", file=sys.stderr)
            taken.append(path)
    return taken


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/pictures.py FOLDER  (an output folder of `spillover demo`)")
    for picture in take(Path(sys.argv[1])):
        print(picture)
