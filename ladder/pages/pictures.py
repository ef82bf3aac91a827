"""The pages' pictures of memory: a bar for each rung, and a rung's step below its parent's."""

from itertools import pairwise

from ladder.pages.drawing import LETTER, LINE, WIDTH, box, legend, on_demand, svg, text
from ladder.rows import memory_of
from ladder.rungs import Rung, stem
from ladder.steps import points
from vramcast.kinds import COLORS, KINDS

ROW, FIGURE = 23, 86  # of the bars: pixels for a row, and for the figure after the bar
PANEL, GAP = 150, 66  # of a step: pixels for its course, and for the text above it


def bars(title: str, rungs: list[Rung], rows: dict[str, dict], published: dict[str, dict]) -> str:
    """A bar for each rung: its length is the reserved peak, its colours show the allocated peak.

    A mark shows the published figure, if one of a whole run exists.
    """
    shown = [rung for rung in rungs if rung.script in rows]
    most = max(
        max(rows[rung.script]["reserved_gb"], published.get(rung.script, {}).get("gb", 0))
        for rung in shown
    )
    left = 12 + LETTER * max(len(stem(rung.script)) for rung in shown)
    scale = (WIDTH - left - FIGURE) / most  # pixels for a GB
    body, head = legend([("reserved, unused", 'class="u"'), ("published", 'class="m"')])
    for number, rung in enumerate(shown):
        row, top = rows[rung.script], head + number * ROW
        body.append(text(left - 8, top + 16, stem(rung.script), "s", "end"))
        x = left
        for kind in KINDS:
            width = scale * row["breakdown_gb"][kind]
            if width >= 0.05:
                body.append(box(x, top + 4, width, ROW - 8, f'fill="{COLORS[kind]}"'))
            x += width
        end = left + scale * row["reserved_gb"]
        body.append(box(x, top + 4, max(end - x, 0), ROW - 8, 'class="u"'))
        if known := published.get(rung.script):
            place = left + scale * known["gb"]
            body.append(box(place - 1, top + 1, 2, ROW - 2, 'class="m"'))
            end = place if end < place < end + FIGURE else end  # else the words fit before it
        body.append(text(end + 5, top + 16, memory_of(row), "s b"))
    return svg(head + len(shown) * ROW + 6, title, body)


def step(name: str, own: dict, parent_name: str, parent: dict | None) -> str:
    """A step's allocated memory over time (from `ladder.steps`), below its parent's, to scale.

    Each phase tells on demand what is allocated at its first and last place, and at most. The
    latter is the highest that is drawn: of a phase of less than a hundredth of the step it may be
    too low.
    """
    drawn = [(f"before: {parent_name}", parent), (f"after: {name}", own)] if parent else []
    drawn = drawn or [(name, own)]
    most = max(one["peak"]["bytes"] for _, one in drawn) / 1e6
    body, top = legend()
    for title, one in drawn:
        body += _course(title, one, top, most)
        top += GAP + PANEL + LINE + 6
    return svg(top, f"Allocated memory over one training step of {name}, predicted", body)


def _course(title: str, one: dict, top: int, most: float) -> list[str]:
    left, right, course = 8, WIDTH - 8, points(one)
    bottom = top + GAP + PANEL
    across, up = (right - left) / max(one["length"], 1), PANEL / most
    peak = one["peak"]
    where = peak["module"] or peak["phase"]
    room = int((right - left) / LETTER) - len("peak: ")
    where = where if len(where) <= room else f"…{where[1 - room :]}"
    body = [
        text(left, top + 16, title, "b"),
        text(right, top + 16, f"▾ {peak['bytes'] / 1e9:.2f} GB", "b", "end"),
        text(right, top + 16 + LINE, f"peak: {where}", "s", "end"),
    ]
    for number in reversed(range(len(KINDS))):
        # from the lowest kind up to this one; those below are drawn over it
        heights = [
            (left + across * place, round(up * sum(sizes[: number + 1]), 1))
            for place, sizes in course
        ]
        if any(sizes[number] for _, sizes in course):
            body.append(_area(heights, right, bottom, COLORS[KINDS[number]]))
    body.append(f'<path class="l" d="M{left} {bottom}H{right}"/>')
    total = {place: sum(sizes) / 1e3 for place, sizes in course}
    names = [phase for _, phase in one["phases"]]
    for number, ((place, phase), (after, _)) in enumerate(
        pairwise([*one["phases"], [one["length"], ""]]), 1
    ):
        x, width = left + across * place, across * (after - place)
        marks = [f'<path class="l" d="M{x:.1f} {bottom}V{top + GAP - 16}"/>']
        if width > LETTER * len(phase) + 8:
            marks.append(text(x + 4, top + GAP - 10, phase, "s"))
        hit = max(width, 12)  # wide enough to be pointed at, at the cost of the phase before it
        marks.append(box(x + width - hit, top + GAP - 24, hit, PANEL + 24, ""))
        which = f" {names[:number].count(phase)} of {names.count(phase)}"
        most_in = max(size for point, size in total.items() if place <= point < after)
        told = (
            f"{phase}{which * (names.count(phase) > 1)}: {total[place]:.2f} → "
            f"{total[after - 1]:.2f} GB, at most {most_in:.2f} GB"
        )
        body.append(on_demand([told], bottom + LINE, marks))
    x, y = left + across * peak["place"], bottom - up * peak["bytes"] / 1e6
    body.append(f'<path class="m" d="M{x:.1f} {y:.1f}l-4 -6h8z"/>')
    return body


def _area(heights: list[tuple[float, float]], right: float, bottom: float, color: str) -> str:
    """The filled area below a line of stairs through these points (x, pixels above the bottom)."""
    path, now = [f"M{heights[0][0]:.1f} {bottom}"], None
    for x, height in heights:
        if height != now:
            path.append(f"H{x:.1f}V{bottom - height:.1f}")
        now = height
    return f'<path fill="{color}" d="{"".join(path)}H{right}V{bottom}z"/>'
