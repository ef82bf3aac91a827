"""Put the site's pages together and build it: python -m website.build [FOLDER]    (or: make site)

FOLDER (website/build) gets `source`, the pages as Sphinx reads them, and `html`, the site, whose
index.html opens from the disk. Sphinx's warnings are errors. Exit status: Sphinx's.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

from sphinx.cmd.build import build_main

from ladder.pages.escaping import block, plain
from ladder.pages.rung_page import ways
from ladder.pages.tables import Figures
from ladder.rungs import ROOT, Rung, read_ladder, reading_order, stem
from website.explorer import differences, front_page

HERE = Path(__file__).parent
SCRIPT = re.compile(r"\]\((?:\.\./)+(?:[^)/]+/)?([^)/]+)\.py\)")  # a link to one
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+\.svg)\)")
SHARED = ("local_utilities", "cifar10", "messages", "several_gpus", "imdb")


def put_together(source: Path) -> None:
    """Write the sources of the site: pages of docs/, one for each script, and the front page."""
    if source.exists():
        shutil.rmtree(source)
    shutil.copytree(ROOT / "docs", source)
    ladder = read_ladder()
    (source / "index.md").write_text(front_page(ladder, Figures.read(ladder, ROOT / "results")))
    for page in source.rglob("*.md"):
        up = "../" * (len(page.relative_to(source).parts) - 1)
        text = SCRIPT.sub(rf"]({up}scripts/\1.md)", page.read_text())
        page.write_text(PICTURE.sub(lambda found, page=page: _drawn(page.parent, found), text))
    for rung in ladder:
        _leave_out_ways(source / "ladder" / f"{stem(rung.script)}.md", rung, ladder)
    scripts = [ROOT / rung.script for rung in ladder]
    scripts += [ROOT / f"{name}.py" for name in SHARED]
    (source / "scripts").mkdir()
    for script in scripts:
        name = script.relative_to(ROOT).as_posix()
        (source / "scripts" / f"{stem(name)}.md").write_text(script_page(name, script.read_text()))
    names = "\n".join(stem(script.name) for script in scripts)
    index = f"# The scripts\n\n```{{toctree}}\n{names}\n```\n"
    (source / "scripts" / "index.md").write_text(index)
    rungs = "\n".join(stem(rung.script) for rung in reading_order(ladder))
    with (source / "ladder" / "index.md").open("a") as file:
        file.write(f"\n```{{toctree}}\n:hidden:\n\n{rungs}\n```\n")


def _drawn(folder: Path, found: re.Match) -> str:
    """A picture as part of its page: with the page's colours, and what it tells on demand."""
    picture = folder / unquote(found[1])
    if not picture.exists():
        return found[0]  # of which Sphinx warns
    return f"<div>\n{picture.read_text().strip()}\n</div>"


def _leave_out_ways(page: Path, rung: Rung, ladder: list[Rung]) -> None:
    """Take a rung's own links to its neighbours away: the site has its own, below each page."""
    links = ways(rung, ladder)
    text = page.read_text().replace(f"\n---\n\n{links}\n", "")
    page.write_text(text.replace(f"{links}\n\n", ""))


def script_page(name: str, source: str) -> str:
    """The page that shows a script."""
    return f"# {plain(name)}\n\n{block(source, 'python')}\n"


def build(folder: Path) -> int:
    """Build the site in `folder`; Sphinx's exit status."""
    put_together(folder / "source")
    options = ["-q", "-W", "--keep-going", "-c", str(HERE), "-d", str(folder / "doctrees")]
    status = build_main([*options, str(folder / "source"), str(folder / "html")])
    (folder / "html" / "differences").mkdir(exist_ok=True)
    for name, found in differences(read_ladder()).items():
        text = f"differences[{json.dumps(name)}] = {json.dumps(found)};\n"
        (folder / "html" / "differences" / f"{name}.js").write_text(text)
    return status


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "build"
    status = build(folder)
    if status == 0:
        print(f"The site: {folder / 'html' / 'index.html'}")
    sys.exit(status)
