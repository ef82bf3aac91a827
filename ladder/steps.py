"""The memory of one training step over time, shortened to what a picture can show."""

from vramcast.kinds import KINDS

PARTS = 120  # of a step: a picture of 800 pixels shows no more


def shorten(timeline: dict) -> dict:
    """A prediction's "timeline", of which only the extremes of each of PARTS parts are kept.

    Kept in full are the first and the last point, those where a phase begins, and the peak.
    "points" are for the function `points`; "phases" says where each begins; "length" is the number
    of allocations and releases in the step; "peak" is the timeline's. {} if the timeline is empty.
    """
    if not timeline:
        return {}
    course = timeline["course"]
    totals = [sum(sums.values()) for _, sums in course]
    phases = [
        [place, phase]
        for place, (phase, _) in enumerate(course)
        if place == 0 or phase != course[place - 1][0]
    ]
    chosen = {0, len(course) - 1, timeline["peak"]["place"]}
    for place, _ in phases:
        chosen |= {place, max(place - 1, 0)}
    for part in range(PARTS):
        places = range(part * len(course) // PARTS, (part + 1) * len(course) // PARTS)
        if places:
            chosen |= {max(places, key=totals.__getitem__), min(places, key=totals.__getitem__)}
    found = [
        " ".join(str(round(course[place][1][kind] / 1e6)) for kind in KINDS)
        for place in sorted(chosen)
    ]
    return {
        "length": len(course),
        "phases": phases,
        "peak": timeline["peak"],
        "points": [f"{place} {sizes}" for place, sizes in zip(sorted(chosen), found, strict=True)],
    }


def points(row: dict) -> list[tuple[int, list[int]]]:
    """The points of a shortened step: a place in it, and the MB (1e6 bytes) of each of `KINDS`."""
    lines = [list(map(int, line.split())) for line in row["points"]]
    return [(place, sizes) for place, *sizes in lines]
