"""What the pages' pictures are drawn with: SVG that a phone shows at a readable size.

Text and background follow the reader's choice of a light or a dark page. The site puts the pictures
into its pages, where they have the page's colours, and what is labelled "on demand" tells it to who
points there, or gets there by keyboard.
"""

from html import escape

from vramcast.kinds import COLORS

WIDTH = 480  # of which a phone shows three quarters: its smallest text has ten pixels there
SHOWN = 560  # pixels at which a wide page shows it: the size of the text around it
LETTER = 7.6  # pixels that a small letter takes, in the widest of the usual fonts
LINE = 18  # pixels from a line of text to the next

STYLE = (
    "<style>.picture text{font:14px system-ui,sans-serif;fill:#1f2328}"
    ".picture .s{font-size:13px}.picture .b{font-weight:600}"
    ".picture .p{fill:#fff}.picture .l{stroke:#8c959f;fill:none}.picture .m{fill:#1f2328}"
    ".picture .o{stroke:#1f2328;fill:none}.picture .u{fill:#8c959f;fill-opacity:.35}"
    ".picture .d{outline:0}.picture .d rect{fill:#8c959f;fill-opacity:0}"
    ".picture .d:hover rect,.picture .d:focus rect{fill-opacity:.45}"
    ".picture .t{visibility:hidden}"
    ".picture .d:hover .t{visibility:visible}"
    ".picture:not(:has(.d:hover)) .d:focus .t{visibility:visible}"
    "@media(prefers-color-scheme:dark){.picture text,.picture .m{fill:#e6edf3}"
    ".picture .o{stroke:#e6edf3}.picture .p{fill:#0d1117}}</style>"
)


def svg(height: float, title: str, body: list[str], data: str = "") -> str:
    """The whole picture, WIDTH by `height`; `data`: attributes for the site's own code."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" width="{SHOWN}" '
            f'height="{height * SHOWN / WIDTH:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'role="group" aria-label="{escape(title)}"{data}>',
            STYLE,
            f'<rect class="p" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, classes: str = "", anchor: str = "") -> str:
    """A line of text, its `anchor` ("start", "middle", "end") at x."""
    classes = f' class="{classes}"' if classes else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{classes}{anchor}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, paint: str) -> str:
    """A rectangle; `paint`: its attributes."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {paint}/>'


def on_demand(lines: list[str], y: float, marks: list[str], data: str = "") -> str:
    """Marks that show `lines` of text at y while they are pointed at or have the focus.

    A rectangle among them is then shaded. Only where the SVG is part of a page, or the page itself:
    a picture in a Markdown file shows the marks alone.
    """
    shown = [text(8, y + LINE * number, line, "s t") for number, line in enumerate(lines)]
    label = escape("; ".join(lines))
    return (
        f'<g class="d" tabindex="0" role="img" aria-label="{label}"{data}>'
        f"{''.join([*marks, *shown])}</g>"
    )


def legend(more: list[tuple[str, str]] = ()) -> tuple[list[str], int]:
    """The kinds of memory with their colours, and what else is in the picture; the lines' height.

    `more`: names with their attributes of paint.
    """
    x, y, parts = 8.0, 16, []
    for name, paint in [(kind, f'fill="{color}"') for kind, color in COLORS.items()] + [*more]:
        width = 28 + LETTER * len(name)
        if x + width > WIDTH:
            x, y = 8.0, y + LINE
        parts += [box(x, y - 10, 11, 11, paint), text(x + 15, y, name, "s")]
        x += width
    return parts, y + 10
