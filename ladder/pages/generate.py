"""Make the README's tables, the pages in docs/ and their pictures from results/ and the scripts.

Published, predicted and rehearsed figures stand in columns of their own, and each column says what
it holds.
"""

import json
from pathlib import Path

from ladder.margin import margins
from ladder.pages import (
    answer_fields,
    combining,
    examples,
    markers,
    others,
    rung_page,
    terminal,
)
from ladder.pages.against_flops import against_flops
from ladder.pages.comparisons import error_tables, other_tools, public_scripts, speedruns
from ladder.pages.pictures import bars
from ladder.pages.tables import Figures, how_far, ladder_table, more_table, techniques_table
from ladder.pages.versions import versions_table
from ladder.rungs import FAMILIES, ROOT, Rung, of_family, read_ladder, stem

PAGES = ROOT / "docs" / "ladder"
TITLES = {
    "ViT-L/16": "ViT-L/16 on one GPU",
    "ViT-H/14": "ViT-H/14, 08a to 10 on several GPUs",
    "language models": "Language models, BigBird on several GPUs",
}


def file_name(family: str) -> str:
    """The file name, without its ending, of the picture of a model's ladder."""
    return family.lower().replace("/", "-").replace(" ", "-")


def pictured(ladder: list[Rung], name: str, figures: Figures) -> list[Rung]:
    """The rungs in a model's picture: of a long ladder, those that lead to the lowest figure."""
    rungs = [rung for rung in of_family(ladder, name) if rung.script in figures.predicted]
    if name != FAMILIES[0]:
        return rungs
    best = min(rungs, key=lambda rung: figures.predicted[rung.script]["reserved_gb"])
    return [rung for rung in rungs if not rung.variant or rung is best]


def readme(page: str, ladder: list[Rung], figures: Figures) -> str:
    """The README with its result and its table."""
    small = of_family(ladder, FAMILIES[0])
    page = markers.put(page, "result", how_far(ladder, figures))
    page = markers.put(page, "answer", terminal.link())
    return markers.put(page, "results", ladder_table(small, figures, "", "docs/ladder/"))


def index(page: str, ladder: list[Rung], figures: Figures) -> str:
    """docs/ladder/index.md with the ladders' pictures and tables."""
    parts = []
    for name, title in TITLES.items():
        rungs = of_family(ladder, name)
        picture = f"![{title}: predicted and published peak memory]({file_name(name)}.svg)"
        parts += [f"## {title}", picture, ladder_table(rungs, figures, "../../", "")]
        parts.append(f"![{title}: memory against FLOPs]({file_name(name)}-flops.svg)")
        parts += ["Time and accuracy:", more_table(rungs, figures)]
    return markers.put(page, "ladders", "\n\n".join(parts))


def pages() -> dict[Path, str]:
    """The content that each generated page and picture should have, by path."""
    ladder, results, docs = read_ladder(), ROOT / "results", ROOT / "docs"
    figures = Figures.read(ladder, results)
    far_off = (docs / "how-far-off.md").read_text()
    for name, text in (
        ("results", error_tables(ladder, results)),
        ("others", others.page(results)),
        ("margin", others.margin_table(results)),
        ("other tools", other_tools(results)),
        ("speedruns", speedruns(results)),
    ):
        far_off = markers.put(far_off, name, text)
    your_script = (docs / "your-script.md").read_text()
    your_script = markers.put(your_script, "public scripts", public_scripts(results))
    made = {
        ROOT / "README.md": readme((ROOT / "README.md").read_text(), ladder, figures),
        docs / "how-far-off.md": far_off,
        docs / "your-script.md": markers.put(your_script, "techniques", techniques_table()),
        docs / "json.md": markers.put(
            (docs / "json.md").read_text(), "fields", answer_fields.tables()
        ),
        docs / "versions.md": markers.put(
            (docs / "versions.md").read_text(), "versions", versions_table(results)
        ),
        docs / "combining.md": combining.fill((docs / "combining.md").read_text(), results),
        ROOT / "vramcast" / "margin.json": json.dumps(margins(results), indent=1) + "\n",
        docs / "answer.svg": terminal.picture(),
        PAGES / "index.md": index((PAGES / "index.md").read_text(), ladder, figures),
    } | examples.pages()
    for name, title in TITLES.items():
        rungs = pictured(ladder, name, figures)
        drawn = bars(f"{title}: peak GPU memory, GB", rungs, figures.predicted, figures.whole)
        made[PAGES / f"{file_name(name)}.svg"] = drawn
        drawn = against_flops(name, of_family(ladder, name), figures)
        made[PAGES / f"{file_name(name)}-flops.svg"] = drawn
    for place, rung in enumerate(ladder):
        source = (ROOT / rung.script).read_text()
        made[PAGES / f"{stem(rung.script)}.md"] = rung_page.page(place, ladder, figures, source)
        if drawn := rung_page.picture(rung, figures):
            made[PAGES / f"{stem(rung.script)}.svg"] = drawn
    return made


def write() -> list[Path]:
    """Bring the generated pages up to date; the paths of those that changed."""
    stale = [
        (path, text)
        for path, text in pages().items()
        if not path.exists() or path.read_text() != text
    ]
    for path, text in stale:
        path.write_text(text)
    return [path for path, _ in stale]
