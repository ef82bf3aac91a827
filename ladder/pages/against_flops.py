"""A picture of memory against FLOPs: what each rung saves and costs, and what is published."""

from collections.abc import Callable
from html import escape
from math import log

from ladder.pages.drawing import LETTER, LINE, WIDTH, on_demand, svg, text
from ladder.pages.tables import Figures
from ladder.rows import memory_of
from ladder.rungs import Rung, number, stem

TOP, LEFT, RIGHT = 66, 36, WIDTH - 8  # of the plot, in pixels
SIZES = [0.25 * 2**power for power in range(12)]  # GB that have a line
SHARES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 4, 8, 16, 32)  # FLOPs that have one
DOT = 4.5  # pixels, a mark's radius


def against_flops(title: str, rungs: list[Rung], figures: Figures) -> str:
    """The predicted reserved peak of each rung over its FLOPs, both scales logarithmic.

    Beside a rung that was published stand the published peak, accuracy and time. FLOPs are for each
    sample, relative to the model's first script. Rungs of which they were not counted are named
    below. The SVG's `data-scale` has what the site's code needs to draw the line of a GPU: the
    pixels and the GB of the plot's top and bottom.
    """
    known = [rung for rung in rungs if rung.script in figures.predicted]
    shown = [rung for rung in known if rung.script in figures.costs]
    flops = [figures.costs[rung.script][1] for rung in shown]
    sizes = [figures.predicted[rung.script]["reserved_gb"] for rung in shown]
    sizes += [figures.whole[rung.script]["gb"] for rung in shown if rung.script in figures.whole]
    most, least = 1.3 * max(sizes), min(sizes) / 1.2
    widest, narrowest = 1.12 * max(flops), min(flops) / 1.12
    bottom = TOP + min(max(20 * len(shown), 220), 420)

    def across(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * log(share / narrowest) / log(widest / narrowest)

    def down(gb: float) -> float:
        return TOP + (bottom - TOP) * log(most / gb) / log(most / least)

    body = [
        *_head(title),
        *_axes(bottom, {gb: down(gb) for gb in SIZES if least < gb < most}, across),
    ]
    places = {
        rung.script: (across(share), down(figures.predicted[rung.script]["reserved_gb"]))
        for rung, share in zip(shown, flops, strict=True)
    }
    marks = [*places.values()]
    marks += [
        (places[rung.script][0], down(figures.whole[rung.script]["gb"]))
        for rung in shown
        if rung.script in figures.whole
    ]
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in marks]
    # those with the longest words look for a place first
    for rung in sorted(shown, key=lambda rung: -len(_words(rung, figures))):
        x, y = places[rung.script]
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{DOT}" fill="#4477aa"/>'
        if published := figures.whole.get(rung.script):
            other = down(published["gb"])
            mark = f'<path class="o" d="M{x:.1f} {y:.1f}V{other:.1f}m-5 0l5 -5l5 5l-5 5z"/>{mark}'
        body.append(
            on_demand(
                _told(rung, figures),
                bottom + 3 * LINE,
                [mark, *_label(x, y, _words(rung, figures), bottom, taken)],
                f' data-script="{escape(rung.script)}"',
            )
        )
    body.append(
        '<g class="need" visibility="hidden">'
        f'<path class="o" d="M{LEFT} 0H{RIGHT}" stroke-width="2"/><text x="8" y="{3 * LINE}"/></g>'
    )
    left_out = ", ".join(number(rung.script) for rung in known if rung not in shown)
    if left_out:
        body.append(text(RIGHT, bottom + 2 * LINE, f"FLOPs not counted: {left_out}", "s", "end"))
    scale = f' data-scale="{TOP} {bottom} {most:.4f} {least:.4f}"'
    return svg(bottom + 5 * LINE, f"{title}: GPU memory against FLOPs", body, scale)


def _head(title: str) -> list[str]:
    y = 2 * LINE
    return [
        text(8, LINE, f"{title}: GB reserved, against FLOPs a sample", "b"),
        f'<circle cx="14" cy="{y - 4}" r="{DOT}" fill="#4477aa"/>',
        text(24, y, "predicted", "s"),
        f'<path class="o" d="M110 {y - 4}m-5 0l5 -5l5 5l-5 5z"/>',
        text(120, y, "published: memory, accuracy, time of an epoch", "s"),
    ]


def _axes(bottom: float, sizes: dict[float, float], across: Callable) -> list[str]:
    """The lines and words of both scales; `sizes`: the places of GB, `across`: that of FLOPs."""
    body = [f'<path class="l" d="M{LEFT} {TOP}V{bottom}H{RIGHT}"/>']
    for gb, y in sizes.items():
        body.append(f'<path class="l" d="M{LEFT} {y:.1f}H{RIGHT}" opacity=".4"/>')
        body.append(text(LEFT - 6, y + 4, f"{gb:g}", "s", "end"))
    last = float(LEFT)
    for share in SHARES:
        if last + 35 < across(share) < RIGHT - 15:
            last = across(share)
            body.append(text(last, bottom + LINE, f"× {share:g}", "s", "middle"))
            body.append(f'<path class="l" d="M{last:.1f} {bottom}v4"/>')
    return body


def _words(rung: Rung, figures: Figures) -> str:
    """What stands beside a mark: the rung's number, and what is published but its memory."""
    published = figures.whole.get(rung.script, {})
    words = [number(rung.script).removeprefix("bonus_")]
    if "accuracy" in published:
        words.append(f"{published['accuracy']:.2f} %")
    if "minutes" in published:
        words.append(f"{published['minutes']:.0f} min")
    return " · ".join(words)


def _told(rung: Rung, figures: Figures) -> list[str]:
    """What a mark tells on demand."""
    row, share = figures.predicted[rung.script], figures.costs[rung.script][1]
    lines = [f"{stem(rung.script)}: {memory_of(row)}, FLOPs × {share:.2f}, predicted"]
    if published := figures.whole.get(rung.script):
        units = {"gb": "GB", "accuracy": "%", "minutes": "min"}
        found = [f"{published[key]:.2f} {unit}" for key, unit in units.items() if key in published]
        lines.append(f"published: {', '.join(found)}")
    return lines


def _label(x: float, y: float, words: str, bottom: float, taken: list[tuple]) -> list[str]:
    """The words beside a mark, where nothing else is, with a line to it if that is not beside it.

    `taken` are the places of all else, as left, top, right and bottom; this one is added.
    """
    width = LETTER * len(words)
    places = []
    for away in range(0, round(bottom) - TOP, 7):
        for middle in (y - away, y + away):
            for x0 in (x + 9, x - 9 - width):
                places.append((x0, middle - 7, x0 + width, middle + 7))
    for place in places:
        left, top, right, low = place
        inside = left > LEFT and right < WIDTH and top > TOP and low < bottom
        if inside and not any(_overlap(place, other) for other in taken):
            break
    else:
        return []  # it is told on demand
    x0, y0, x1, y1 = place
    taken.append(place)
    near = x0 if x0 > x else x1
    drawn = [text(x0 if x0 > x else x1, y1 - 2, words, "s", "" if x0 > x else "end")]
    if abs(y0 + 7 - y) > 3:
        drawn.append(f'<path class="l" d="M{x:.1f} {y:.1f}L{near:.1f} {y0 + 7:.1f}" opacity=".6"/>')
    return drawn


def _overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
