"""Pages of a script that means them ill: all that comes from it stays text."""

import dataclasses
import json
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin

from ladder import rungs
from ladder.pages import comparisons, escaping, others, rung_page, tables
from ladder.pages.against_flops import against_flops
from ladder.pages.pictures import bars
from ladder.pages.tables import Figures
from ladder.rungs import FAMILIES, ROOT, code, of_family, read_ladder, stem
from website.build import script_page
from website.explorer import differences, front_page

REPLACED = "02-2_bf16-mixed.py"
HOSTILE = "02-2_<img src=x onerror=alert(1)>[x](javascript:alert(1)) `|` -->.py"
TEXT = (
    "A <script>alert(1)</script> | trick: `<b>` ` *x*\n`<script>alert(2)</script>` ` <!--<script>\n"
    "```{raw} html\n<script>alert(3)</script>\n```\n\n~~~{raw} html\n<script>\n~~~\n\n"
    ":::{raw} html\n<script>\n:::\n\n<!-- x\n\n</details><style>"
)
SOURCE = (
    f'"""Doc."""\nx = """\n```\n<script>alert(4)</script>\n{"`" * 7}\n'
    '<!--<script>\n</script></body>\n"""\n'
)


@pytest.fixture
def ladder(tmp_path, monkeypatch) -> list[rungs.Rung]:
    """The ladder, in which a script has been replaced by one that means ill."""
    found = read_ladder()
    for rung in found:
        (tmp_path / rung.script).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / rung.script, tmp_path / rung.script)
    (tmp_path / HOSTILE).write_text(SOURCE)
    monkeypatch.setattr(rungs, "ROOT", tmp_path)
    return [
        dataclasses.replace(rung, script=HOSTILE, title=TEXT, lesson=TEXT, run=TEXT)
        if rung.script == REPLACED
        else rung
        for rung in found
    ]


@pytest.fixture
def figures(ladder) -> Figures:
    read = Figures.read(ladder, ROOT / "results")
    for rows in (read.predicted, read.rehearsed, read.steps, read.published):
        if REPLACED in rows:
            rows[HOSTILE] = rows[REPLACED] | {"script": HOSTILE}
    read.predicted[HOSTILE] |= {"peak_module": f"model`{TEXT}"}
    return read


class Parts(HTMLParser):
    """The tags of a page, and what its scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.comments = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, {name for name, _ in attributes}))

    def handle_data(self, data) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem:
            self.scripts.append(data)

    def handle_comment(self, data) -> None:
        self.comments.append(data)


def fences(page: str) -> list[tuple[str, str]]:
    """Kind and content of the page's fences; AssertionError if anything in it acts."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table").use(colon_fence_plugin)
    parts = Parts(parser.render(page))
    for tag, attributes in parts.tags:
        assert tag not in ("script", "style", "b"), tag
        assert attributes <= {"href", "src", "alt", "class", "style"}
        assert "src" not in attributes or tag == "img"
    assert "javascript:" not in "".join(
        token.attrs.get("href", "")
        for block in parser.parse(page)
        for token in block.children or ()
    )
    tokens = parser.parse(page)
    assert not [token for token in tokens if token.type == "colon_fence"]
    return [(token.info, token.content) for token in tokens if token.type == "fence"]


def test_a_rung_s_page(ladder, figures):
    place = [rung.script for rung in ladder].index(HOSTILE)
    page = rung_page.page(place, ladder, figures, SOURCE)
    kinds = [kind for kind, _ in fences(page)]
    assert kinds == ["", "", "diff"]
    command, without, difference = (content for _, content in fences(page))
    assert TEXT in command
    assert HOSTILE in without
    assert "<script>alert(4)</script>" in difference
    assert page.startswith("<!-- made from 02-2_&lt;img")
    for neighbour in (place - 1, place + 1):
        fences(rung_page.page(neighbour, ladder, figures, "pass\n"))


def test_a_script_s_page():
    assert fences(script_page(HOSTILE, SOURCE)) == [("python", SOURCE)]


def test_tables(ladder, figures):
    own = of_family(ladder, FAMILIES[0])
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    for page in (tables.ladder_table(own, figures, "", ""), tables.more_table(own, figures)):
        fences(page)
        assert page.count("trick") == page.count(r"\| trick")
        rows = parser.render(page).split("<tr>")[1:]
        assert len(rows) == 1 + len(own)
        assert len({row.count("</td>") + row.count("</th>") for row in rows}) == 1


def test_what_exceptions_say(tmp_path):
    said = "<urlopen error *x*> [a](javascript:b) `c` ```{raw} html <!--<script>alert(1)</script>"
    row = {
        "repository": "a/<b>", "release": "1", "path": "x`<b>|.py", "options": "", "error": said,
        "at_first": False, "chosen": 3, "project": "p", "what": "w", "quantity": "q",
        "explanation": "", "counted": True, "fault": "ours",
    }  # fmt: skip
    (tmp_path / "public_scripts.json").write_text(json.dumps([row]))
    for page in (comparisons.public_scripts(tmp_path), others.misses([row])):
        assert fences(page) == []
        shown = MarkdownIt("commonmark", {"html": True}).render(page)
        assert "&lt;urlopen error *x*&gt; [a](javascript:b) `c` ```{raw} html &lt;!--" in shown


def test_the_explorer_and_its_data(ladder, figures):
    page = front_page(ladder, figures)
    parts = Parts(page)
    [text] = parts.scripts
    assert "<" not in text
    assert {tag for tag, _ in parts.tags}.isdisjoint({"img", "b", "style"})
    assert [tag for tag, _ in parts.tags].count("script") == 1
    scripts = {row["script"] for row in json.loads(text)["scripts"]}
    assert HOSTILE in scripts
    assert len(scripts) == len(ladder)
    assert page.count(f"{escaping.target(stem(HOSTILE))}.html") == 1


def test_differences_in_files_of_their_own(ladder):
    found = differences(ladder)
    whole = found[stem(ladder[0].script)][stem(HOSTILE)].splitlines()
    assert [line[1:] for line in whole[3:] if line[0] != "-"] == code(HOSTILE)


def test_pictures(ladder, figures):
    own = of_family(ladder, FAMILIES[0])
    rung = next(rung for rung in ladder if rung.script == HOSTILE)
    costs = figures.costs | {HOSTILE: (1.0, 1.0)}
    for picture in (
        against_flops("<b>", own, dataclasses.replace(figures, costs=costs)),
        bars("<b>", own, figures.predicted, figures.whole),
        rung_page.picture(rung, figures),
    ):
        tags = {tag for tag, _ in Parts(picture).tags}
        assert tags <= {"svg", "style", "g", "rect", "path", "circle", "text"}
        assert "02-2_&lt;img src=x" in picture
        ElementTree.fromstring(picture)  # well-formed: nobody's "&" or quotes end anything


def test_what_is_no_mark_stays_as_it_is():
    """The ladder's own texts and names, that is: the pages show them as they are written."""
    for rung in read_ladder():
        assert escaping.prose(rung.lesson) == rung.lesson
        assert escaping.line(rung.title) == rung.title
        assert escaping.plain(stem(rung.script)) == escaping.target(stem(rung.script))
        assert escaping.block("x\n", "python") == "```python\nx\n```"
