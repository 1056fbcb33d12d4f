"""Draws docs/map.svg: the rooms of the package in their order, and which room uses which.

    python docs/map.py

Everything in the drawing is read from the repository. The order of the rooms is that of the import contract in
`pyproject.toml`. A room's line is the first sentence of its docstring. The arrows are its imports, without those that
other arrows imply. Only the way from the YAML to the report (`WAY`) is written down here.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spillover"
DRAWING = Path(__file__).with_name("map.svg")

WAY = ("experiment", "plan", "work", "store", "analysis", "report")

WIDTH, LEFT, RIGHT, TOP = 900, 170, 780, 58  # boxes stand between LEFT and RIGHT
HEIGHT, GAP, LANE = 44, 12, 15
STYLE = """
  svg { --ink: #1f2328; --soft: #656d76; --box: #f6f8fa; --edge: #d0d7de; --way: #0969da; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --soft: #9198a1; --box: #161b22; --edge: #3d444d; --way: #58a6ff; }
  }
  text { font: 12.5px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
  .name { font-weight: 600; font-size: 14px; } .soft { fill: var(--soft); }
  rect { fill: var(--box); stroke: var(--edge); }
  .on-way rect { stroke: var(--way); stroke-width: 2; }
  .uses { fill: none; stroke: var(--soft); stroke-width: 1.2; }
  .way { fill: none; stroke: var(--way); stroke-width: 3; }
  .head { fill: var(--soft); } .way-head, .way-text { fill: var(--way); }
"""


def rooms() -> list[str]:
    """The rooms in the order in which data passes, then `api` and `cli`. The ground modules are left out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    *upper, _ground = layers
    return [room.strip() for layer in reversed(upper) for room in layer.split("|")]


def captions() -> dict[str, str]:
    """The first sentence of each room's docstring."""
    found = {}
    for room in rooms():
        path = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
        first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0]
        found[room] = " ".join(first.split())
    return found


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports, late imports and those for type checkers included."""
    package = ("spillover", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield from (*start, *name.split("."))[1:2]


def arrows() -> list[tuple[str, str]]:
    """(a room, a room that uses it), without the arrows that a longer way of arrows implies."""
    place = {room: number for number, room in enumerate(rooms())}
    uses: dict[str, set[str]] = {room: set() for room in place}
    for path in PACKAGE.rglob("*.py"):
        user = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if user in place:
            uses[user] |= {room for room in imported(path) if place.get(room, len(place)) < place[user]}
    reached: dict[str, set[str]] = {}
    for room in place:  # in order, so that everything a room uses has been seen
        reached[room] = uses[room].union(*(reached[used] for used in uses[room]))
    return [
        (used, user)
        for user in place
        for used in sorted(uses[user], key=place.__getitem__)
        if not any(used in reached[other] for other in uses[user] - {used})
    ]


def lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for each span of rows, short spans first, so that no two of a lane overlap."""
    chosen: dict[int, int] = {}
    for number in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], spans[i])):
        low, high = spans[number]
        taken = {lane for other, lane in chosen.items() if spans[other][0] < high and low < spans[other][1]}
        chosen[number] = next(lane for lane in range(len(spans)) if lane not in taken)
    return [chosen[number] for number in range(len(spans))]


def top(row: int) -> int:
    return TOP + row * (HEIGHT + GAP)


def boxes(captions: Mapping[str, str]) -> Iterator[str]:
    for row, (room, caption) in enumerate(captions.items()):
        y, kind = top(row), "room on-way" if room in WAY else "room"
        title = f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
        lines = textwrap.wrap(caption, 70)
        yield f'<g class="{kind}" data-room="{room}" data-caption="{escape(caption)}">'
        yield f'<rect x="{LEFT}" y="{y}" width="{RIGHT - LEFT}" height="{HEIGHT}" rx="6"/>'
        yield f'<text class="name" x="{LEFT + 12}" y="{y + 27}">{title}</text>'
        for number, line in enumerate(lines):
            below = y + 27 + 16 * number - 8 * (len(lines) - 1)
            yield f'<text x="{LEFT + 118}" y="{below}">{escape(line)}</text>'
        yield "</g>"


def connections(order: Sequence[str]) -> Iterator[str]:
    """The imports, on the right. Arrows of one room leave it at one point and end at another."""
    row = {room: number for number, room in enumerate(order)}
    pairs = arrows()
    for (used, user), lane in zip(pairs, lanes([(row[used], row[user]) for used, user in pairs]), strict=True):
        start, end, x = top(row[used]) + HEIGHT - 12, top(row[user]) + 12, RIGHT + 22 + LANE * lane
        yield (
            f'<path class="uses" data-from="{used}" data-to="{user}" marker-end="url(#head)" '
            f'd="M{RIGHT} {start} H{x - 6} q6 0 6 6 V{end - 6} q0 6 -6 6 H{RIGHT + 7}"/>'
        )


def way(order: Sequence[str]) -> Iterator[str]:
    """From the YAML to the report, on the left."""
    row = {room: number for number, room in enumerate(order)}
    first, last = top(row[WAY[0]]) + HEIGHT // 2, top(row[WAY[-1]]) + HEIGHT // 2
    yield f'<text class="name way-text" x="{LEFT - 40}" y="{first - 4}" text-anchor="end">YAML</text>'
    yield f'<path class="way" d="M{LEFT - 36} {first - 9} H{LEFT - 12}" marker-end="url(#way-head)"/>'
    legs = [(row[here], row[there]) for here, there in pairwise(WAY)]
    for (here, there), lane in zip(legs, lanes([(min(leg), max(leg)) for leg in legs]), strict=True):
        down, x = (8 if there > here else -8), LEFT - 26 - 18 * lane
        start, end = top(here) + HEIGHT // 2 + 10, top(there) + HEIGHT // 2 - 10
        yield (
            f'<path class="way" marker-end="url(#way-head)" d="M{LEFT} {start} H{x + 8} '
            f'q-8 0 -8 {down} V{end - down} q0 {down} 8 {down} H{LEFT - 12}"/>'
        )
    yield f'<path class="way" d="M{LEFT} {last + 9} H{LEFT - 26}" marker-end="url(#way-head)"/>'
    yield f'<text class="name way-text" x="{LEFT - 44}" y="{last + 14}" text-anchor="end">report.html</text>'


HEAD = (
    '<marker id="{0}" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="{1}" markerHeight="{1}" orient="auto" '
    'markerUnits="userSpaceOnUse"><path class="{0}" d="M0 0 L8 4 L0 8 z"/></marker>'
)


def draw() -> str:
    """The drawing as SVG."""
    captioned = captions()
    order = list(captioned)
    height = top(len(order)) + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            "<title>The rooms of the package in the order in which data passes</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{HEAD.format('head', 8)}{HEAD.format('way-head', 12)}</defs>",
            '<text class="way-text" x="12" y="22">Blue: the way of an experiment, from the YAML to the report.</text>',
            '<text class="soft" x="12" y="41">Grey: which room uses which. An arrow points from a room to one that '
            "imports it. Arrows that longer ways imply are left out.</text>",
            *boxes(captioned),
            *connections(order),
            *way(order),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    DRAWING.write_text(draw(), "utf-8")
    print(f"wrote {DRAWING}")
