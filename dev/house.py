"""Draw the package as a house, from its imports: ``make house`` writes docs/house.svg.

One floor per stage, in the order in which a rule goes through them; an arc leads from a room to each room whose modules
it imports, and is as thick as their number says. Arcs lead upwards only: ``tests/unit/test_structure.py`` says so.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "trigger_kit"
PICTURE = ROOT / "docs" / "house.svg"

# The rooms by floor, and what happens there; single modules stand together in a room of their own.
DECLARE, DOORS = "declare", "front doors"
FLOORS: tuple[tuple[tuple[str, str], ...], ...] = (
    ((DECLARE, "what users write"),),
    (("resolve", "what a rule reads"),),
    (("plan", "how it is kept"),),
    (("sql", "what the database runs"),),
    (("database", "what is there, and how it becomes what rules want"),),
    (("migration", "rules in migrations"),),
    (("exact", "read stored and pending together"), ("maintenance", "look after rules in use")),
    (("checks", "what is refused or warned of"),),
    ((DOORS, "where users come in"),),
    (("commands", "what people type"), ("management", "")),
)
SINGLE = {
    **dict.fromkeys(("rules", "expressions", "rows", "notation", "meta", "conf", "exceptions", "version"), DECLARE),
    **dict.fromkeys(("", "apps", "testing"), DOORS),
}
WIDTH, LEFT, LINE, PAD, GAP = 620, 20, 15, 10, 22
ARCS = 250


def modules() -> dict[str, Path]:
    """Return the modules of the package by their names in it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    first = module.partition(".")[0]
    return SINGLE.get(first, first)


def imported(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "trigger_kit":
            base = (node.module or "").partition(".")[2]
            inner = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            names |= {name if name in known else base for name in inner}
    return names


def arrows() -> Counter[tuple[str, str]]:
    """Return how many imports lead from each room to each other one."""
    found = modules()
    counted: Counter[tuple[str, str]] = Counter()
    for name, path in found.items():
        for other in imported(path, set(found)):
            if room_of(other) != room_of(name):
                counted[room_of(name), room_of(other)] += 1
    return counted


def picture() -> str:
    """Return the house as SVG."""
    rooms: dict[str, list[str]] = {}
    for name in modules():
        rooms.setdefault(room_of(name), []).append(name.rpartition(".")[2] or "__init__")
    shapes, places, top = [], dict[str, tuple[float, float]](), PAD
    for floor in FLOORS:
        width = (WIDTH - PAD * (len(floor) - 1)) / len(floor)
        texts = [wrap(", ".join(sorted(set(rooms[room]) - {room})), int(width / 7)) for room, _ in floor]
        height = PAD * 2 + LINE * (1 + max(map(len, texts)))
        for number, ((room, says), lines) in enumerate(zip(floor, texts, strict=True)):
            left = LEFT + number * (width + PAD)
            shapes.append(_room(left, top, width, height, room, says, lines))
            places[room] = top + height / 2, left + width
        top += height + GAP
    counted = arrows()
    arcs = [_arc(places, pair, number) for pair, number in sorted(counted.items())]
    size = f'width="{LEFT + WIDTH + ARCS}" height="{top}" viewBox="0 0 {LEFT + WIDTH + ARCS} {top}"'
    title = f"<title>trigger_kit: {len(places)} rooms on {len(FLOORS)} floors, {len(counted)} arrows</title>"
    style = 'font-family="sans-serif" font-size="12"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', title, *arcs, *shapes, "</svg>", ""])


def _room(left: float, top: float, width: float, height: float, room: str, says: str, lines: list[str]) -> str:
    head = f'<tspan font-weight="bold">{escape(room)}</tspan>  {escape(says)}'
    texts = [head, *map(escape, lines)]
    shown = "".join(
        f'<text x="{left + PAD:.0f}" y="{top + PAD + LINE * (number + 0.8):.0f}" '
        f'fill="{"#555" if number else "#000"}">{text}</text>'
        for number, text in enumerate(texts)
    )
    place = f'x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}"'
    box = f'<rect {place} rx="4" fill="#fff" stroke="#333"/>'
    return box + shown


def _arc(places: dict[str, tuple[float, float]], pair: tuple[str, str], number: int) -> str:
    """Return the way from a room to one that it imports, out to the right."""
    start, end = places[pair[0]][0], places[pair[1]][0]
    edge = LEFT + WIDTH
    out = edge + min(ARCS - 10, 30 + abs(start - end) * 0.42)
    colour = "#2a6f97" if start > end else "#c1121f"
    path = f"M{edge} {start:.0f} C{out:.0f} {start:.0f} {out:.0f} {end:.0f} {edge} {end:.0f}"
    label = f"{pair[0]} imports {pair[1]}: {number}"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="0.55" stroke-width="{1 + number / 12:.1f}">'
        f"<title>{escape(label)}</title></path>"
    )


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}: {len(arrows())} arrows\n")


if __name__ == "__main__":
    main()
