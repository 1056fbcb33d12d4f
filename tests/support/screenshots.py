"""Screenshots of a report, to be looked at: 1440 and 390 pixels wide, light and dark, the whole page each time.

python tests/support/screenshots.py runs/experiment/report.html shots/
"""

from __future__ import annotations

import sys
from pathlib import Path

from browser import chromium

WIDTHS = (1440, 390)
SCHEMES = ("light", "dark")


def take(page: Path, folder: Path) -> list[Path]:
    """One file for each width and scheme, named after them."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with chromium() as browser:
        for width in WIDTHS:
            for scheme in SCHEMES:
                view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                view.goto(page.absolute().as_uri())
                view.locator("#examples, #read").first.scroll_into_view_if_needed()
                view.wait_for_timeout(300)
                path = folder / f"{page.parent.name}-{width}-{scheme}.png"
                view.screenshot(path=path, full_page=True)
                taken.append(path)
                view.close()
    return taken


if __name__ == "__main__":
    for path in take(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
