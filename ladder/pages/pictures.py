"""The pages' pictures as SVG: a bar for each rung, and a rung's training step below its parent's.

Text and background follow the reader's choice of a light or a dark page.
"""

from html import escape
from itertools import pairwise

from ladder.rows import memory_of
from ladder.rungs import Rung
from ladder.steps import points
from vramcast.kinds import COLORS, KINDS

STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.s{font-size:11px}"
    ".b{font-weight:600}.p{fill:#fff}.l{stroke:#8c959f;stroke-width:1}.m{fill:#1f2328}"
    ".u{fill:#8c959f;fill-opacity:.35}"
    "@media(prefers-color-scheme:dark){text,.m{fill:#e6edf3}.p{fill:#0d1117}}</style>"
)
WIDTH = 800
NAMES, ROW, HEAD = 200, 21, 26  # of the bars: pixels for names, a row, and the legend
PANEL, GAP = 130, 46  # of a step: pixels for its course, and for the text above it


def _svg(height: int, title: str, body: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            STYLE,
            f'<rect class="p" width="{WIDTH}" height="{height}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, words: str, classes: str = "", anchor: str = "") -> str:
    classes = f' class="{classes}"' if classes else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{classes}{anchor}>{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, paint: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {paint}/>'


def _legend(y: int, more: list[tuple[str, str]] = ()) -> list[str]:
    """A line that names the kinds of memory with their colours, and what else is in the picture."""
    x, parts = 8, []
    for name, paint in [(kind, f'fill="{color}"') for kind, color in COLORS.items()] + [*more]:
        parts += [_box(x, y - 9, 10, 10, paint), _text(x + 14, y, name, "s")]
        x += 26 + 6 * len(name)
    return parts


def bars(title: str, rungs: list[Rung], rows: dict[str, dict], published: dict[str, dict]) -> str:
    """A bar for each rung: its length is the reserved peak, its colours show the allocated peak.

    A mark shows the published figure, if one of a whole run exists.
    """
    shown = [rung for rung in rungs if rung.script in rows]
    most = max(
        max(rows[rung.script]["reserved_gb"], published.get(rung.script, {}).get("gb", 0))
        for rung in shown
    )
    scale = (WIDTH - NAMES - 70) / most  # pixels for a GB
    more = [("reserved, unused", 'class="u"'), ("published", 'class="m"')]
    body = _legend(16, more)
    for number, rung in enumerate(shown):
        row, top = rows[rung.script], HEAD + number * ROW
        name = rung.script.rpartition("/")[2].removesuffix(".py")
        body.append(_text(NAMES - 8, top + 14, name, "s", "end"))
        x = float(NAMES)
        for kind in KINDS:
            width = scale * row["breakdown_gb"][kind]
            if width >= 0.05:
                body.append(_box(x, top + 3, width, ROW - 6, f'fill="{COLORS[kind]}"'))
            x += width
        end = NAMES + scale * row["reserved_gb"]
        body.append(_box(x, top + 3, max(end - x, 0), ROW - 6, 'class="u"'))
        if known := published.get(rung.script):
            place = NAMES + scale * known["gb"]
            body.append(_box(place - 1, top + 1, 2, ROW - 2, 'class="m"'))
            end = place if end < place < end + 80 else end  # else the words have room before it
        body.append(_text(end + 6, top + 14, memory_of(row), "s b"))
    return _svg(HEAD + len(shown) * ROW + 6, title, body)


def step(name: str, own: dict, parent_name: str, parent: dict | None) -> str:
    """A step's allocated memory over time (from `ladder.steps`), below its parent's, to scale."""
    drawn = [(f"before: {parent_name}", parent), (f"after: {name}", own)] if parent else []
    drawn = drawn or [(name, own)]
    most = max(one["peak"]["bytes"] for _, one in drawn) / 1e6
    body = _legend(16)
    for number, (title, one) in enumerate(drawn):
        body += _course(title, one, 24 + number * (PANEL + GAP), most)
    height = 24 + len(drawn) * (PANEL + GAP) + 6
    return _svg(height, f"Allocated memory over one training step of {name}, predicted", body)


def _course(title: str, one: dict, top: int, most: float) -> list[str]:
    left, right, course = 8, WIDTH - 70, points(one)
    bottom = top + GAP + PANEL - 6
    across, up = (right - left) / max(one["length"], 1), (PANEL - 6) / most
    body = [_text(left, top + 16, title, "b")]
    for number in reversed(range(len(KINDS))):
        # from the lowest kind up to this one; those below are drawn over it
        heights = [
            (left + across * place, round(up * sum(sizes[: number + 1]), 1))
            for place, sizes in course
        ]
        if any(sizes[number] for _, sizes in course):
            body.append(_area(heights, right, bottom, COLORS[KINDS[number]]))
    body.append(f'<path class="l" d="M{left} {bottom}H{right}"/>')
    for (place, phase), after in pairwise([*one["phases"], [one["length"], ""]]):
        x = left + across * place
        body.append(f'<path class="l" d="M{x:.1f} {bottom}V{top + GAP - 8}"/>')
        if across * (after[0] - place) > 7 * len(phase):
            body.append(_text(x + 4, top + GAP - 4, phase, "s"))
    peak = one["peak"]
    x, y = left + across * peak["place"], bottom - up * peak["bytes"] / 1e6
    body.append(f'<path class="m" d="M{x:.1f} {y:.1f}l-4 -6h8z"/>')
    body.append(_text(right + 6, y + 4, f"{peak['bytes'] / 1e9:.2f} GB", "b"))
    where = ", ".join(filter(None, (peak["phase"], peak["module"])))
    body.append(_text(right, top + 16, f"▾ peak: {where}", "s", "end"))
    return body


def _area(heights: list[tuple[float, float]], right: float, bottom: float, color: str) -> str:
    """The filled area below a line of stairs through these points (x, pixels above the bottom)."""
    path, now = [f"M{heights[0][0]:.1f} {bottom}"], None
    for x, height in heights:
        if height != now:
            path.append(f"H{x:.1f}V{bottom - height:.1f}")
        now = height
    return f'<path fill="{color}" d="{"".join(path)}H{right}V{bottom}z"/>'
