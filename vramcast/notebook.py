"""A prediction's picture for a notebook: HTML with its pictures in it, and no other file.

Text and lines have the page's own colour, so that they are seen on light and on dark ground.
"""

from collections.abc import Sequence
from html import escape
from itertools import accumulate, groupby, pairwise

from vramcast.kinds import COLORS, KINDS

WIDTH, HEIGHT, TOP = 800, 150, 20  # of a picture, and the room for the names of phases above it
PARTS = 200  # of a step: a picture shows no more
LETTER = 6.5  # pixels of a letter, about


def html(answer: str, details: Sequence[str], sizes: dict[str, float], reserved: float,
         step: dict) -> str:  # fmt: skip
    """The answer, what the allocated peak consists of, one training step, and the details.

    `sizes`: GB by kind; `reserved`: GB; `step`: a prediction's "timeline", {} for none.
    """
    lines = escape("\n".join(details))
    parts = [f"<b>{escape(answer)}</b>", _bar(sizes, reserved), _legend(sizes)]
    if step:
        parts += ["Allocated memory over one training step, predicted:", _course(step)]
    parts.append(
        '<details><summary>Details</summary><pre style="white-space:pre-wrap;background:none;'
        f'color:inherit">{lines}</pre></details>'
    )
    inner = "".join(f'<div style="margin:4px 0">{part}</div>' for part in parts)
    return f'<div style="max-width:{WIDTH}px;line-height:1.4">{inner}</div>'


def _svg(height: int, title: str, body: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'style="width:100%;font:11px sans-serif"><title>{escape(title)}</title>'
        f"{''.join(body)}</svg>"
    )


def _bar(sizes: dict[str, float], reserved: float) -> str:
    """A bar as long as what is reserved, of which the rest after the kinds is not allocated."""
    scale, x, body = WIDTH / max(reserved, sum(sizes.values()), 1e-9), 0.0, []
    for kind in KINDS:
        width = scale * sizes[kind]
        name = escape(f"{kind} {sizes[kind]:.2f} GB")
        body.append(
            f'<rect x="{x:.1f}" width="{width:.1f}" height="14" fill="{COLORS[kind]}">'
            f"<title>{name}</title></rect>"
        )
        x += width
    body.append(
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="13" fill="none" stroke="currentColor" '
        'stroke-opacity="0.4"/>'
    )
    return _svg(14, "what the allocated peak consists of, within what is reserved", body)


def _legend(sizes: dict[str, float]) -> str:
    """The kinds with their colours and GB, without those that are rounded to nothing."""
    return " ".join(
        f'<span style="white-space:nowrap;margin-right:8px"><span style="color:{COLORS[kind]}">■'
        f"</span> {kind} {sizes[kind]:.2f} GB</span>"
        for kind in KINDS
        if sizes[kind] >= 0.005
    )


def _course(step: dict) -> str:
    """A step's memory by kind over its allocations and releases, with its phases and its peak."""
    course, peak = step["course"], step["peak"]
    across, up = WIDTH / len(course), (HEIGHT - 14) / max(peak["bytes"], 1)
    places, body = _highest(course), []
    totals = [list(accumulate(course[place][1][kind] for kind in KINDS)) for place in places]
    bottom = TOP + HEIGHT
    for number in reversed(range(len(KINDS))):  # the lower ones are drawn over it
        if any(course[place][1][KINDS[number]] for place in places):
            heights = [bottom - up * total[number] for total in totals]
            path = _stairs([across * place for place in places], heights)
            body.append(
                f'<path fill="{COLORS[KINDS[number]]}" d="M0 {bottom}{path}H{WIDTH}V{bottom}z"/>'
            )
    for phase, group in groupby(enumerate(course), key=lambda item: item[1][0]):
        here = [place for place, _ in group]
        x, room = across * here[0], across * len(here)
        name = escape(phase)
        shown = f'<text x="{x + 3:.1f}" y="14" fill="currentColor">{name}</text>'
        body.append(
            f'<g><title>{name}</title><rect x="{x:.1f}" width="{room:.1f}" '
            f'height="{TOP + HEIGHT}" fill-opacity="0"/><path d="M{x:.1f} 4V{TOP + HEIGHT}" '
            f'stroke="currentColor" stroke-opacity="0.4"/>'
            f"{shown if room > LETTER * len(phase) else ''}</g>"
        )
    x, y = across * peak["place"], TOP + HEIGHT - up * peak["bytes"]
    line = f"line {peak['line']}" if peak["line"] else ""
    where = ", ".join(filter(None, (peak["phase"], peak["module"], line)))
    words = escape(f"{peak['bytes'] / 1e9:.2f} GB: {where}")
    beside, anchor = (-7, "end") if x > WIDTH / 2 else (7, "start")
    body.append(
        f'<path d="M{x:.1f} {y:.1f}l-4 -7h8z" fill="currentColor"/>'
        f'<text x="{x + beside:.1f}" y="{y - 1:.1f}" fill="currentColor" '
        f'text-anchor="{anchor}">{words}</text>'
    )
    return _svg(TOP + HEIGHT, "allocated memory over one training step", body)


def _stairs(places: list[float], heights: list[float]) -> str:
    """A line that goes up and down at these places, where the height is another."""
    known, path = None, ""
    for place, height in zip(places, heights):
        if f"{height:.1f}" != known:
            known = f"{height:.1f}"
            path += f"H{place:.1f}V{known}"
    return path


def _highest(course: list) -> list[int]:
    """Of each of PARTS parts of a step, the place with the most memory: also the peak."""
    totals = [sum(sizes.values()) for _, sizes in course]
    ends = [number * len(course) // PARTS for number in range(PARTS + 1)]
    return [
        max(range(start, end), key=totals.__getitem__)
        for start, end in pairwise(ends)
        if end > start
    ]
