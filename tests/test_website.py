"""The site in a real browser: its explorer's answers are the commands'."""

import difflib
import json
import re
import shutil

import pytest

from ladder.pages.tables import Figures
from ladder.rows import by_script
from ladder.rungs import ROOT, code, read_ladder
from tests import warm
from tests.helpers import run
from website.explorer import data

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder."""
    folder = tmp_path_factory.mktemp("site")
    process = run("-m", "website.build", str(folder))
    assert process.returncode == 0, process.stdout + process.stderr  # warnings are errors
    return folder / "html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def front_page(site, browser):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    yield page
    page.close()


def test_each_script_has_a_page_and_nothing_comes_from_a_network(site):
    for rung in read_ladder():
        name = rung.script.rpartition("/")[2].removesuffix(".py")
        assert (site / "ladder" / f"{name}.html").exists()
        assert (site / "scripts" / f"{name}.html").exists()
    for page in site.rglob("*.html"):
        sources = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]*)"', page.read_text())
        assert not [source for source in sources if source.startswith(("http", "//"))], page


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "ladder/index", "ladder/16_qlora", "scripts/16_qlora"])
def test_no_error_and_no_scrolling_to_the_side_on_a_phone(site, browser, scheme, name):
    page, said = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert said == []
    page.close()


@needs_browser
@pytest.mark.parametrize("gpu", ["8", "RTX-4090", "A100-40"])
def test_the_first_that_fits_is_the_commands(front_page, gpu):
    if gpu.isdigit():
        front_page.fill("#gb", gpu)
    else:
        front_page.select_option("#gpu", gpu)
    process = warm.run("-m", "ladder.fits", gpu)
    assert process.returncode == 0
    first = re.findall(r"\n  ViT-L/16, batches of \d+,.*: python (\S+)", process.stdout)
    assert len(first) == 2
    assert front_page.get_attribute("#answer", "data-first").split() == first
    for script in first:
        assert f"python {script}" in front_page.inner_text("#answer")


@needs_browser
def test_a_gpu_without_bfloat16_runs_no_bfloat16(front_page):
    front_page.select_option("#gpu", "T4")
    row = front_page.locator('tr[data-script="03_bfloat16.py"] .fit')
    assert row.inner_text().endswith("needs bfloat16")
    assert "11-3_float16-mixed.py" in front_page.inner_text("#answer")  # a variant, but it runs


@needs_browser
def test_every_difference_is_difflibs(front_page):
    scripts = data(ladder := read_ladder(), Figures.read(ladder, ROOT / "results"))["scripts"]
    names = [row["script"] for row in scripts]
    assert len(names) == len(ladder)
    found = front_page.evaluate(
        """() => {
            const scripts = JSON.parse(document.getElementById("ladder-data").textContent).scripts;
            return scripts.map((a) => scripts.map((b) =>
                unifiedDiff(a.code, b.code, a.script, b.script).join("\\n")));
        }"""
    )
    codes = [code(name) for name in names]
    for one, a, row in zip(names, codes, found, strict=True):
        for other, b, text in zip(names, codes, row, strict=True):
            lines = difflib.unified_diff(a, b, one, other, lineterm="")
            assert text == "\n".join(lines), (one, other)


@needs_browser
def test_bars_tell_their_split_to_the_keyboard(front_page):
    bar = front_page.locator('tr[data-script$="16_qlora.py"] .bar')
    bar.focus()
    told = front_page.inner_text("#split")
    assert told == bar.get_attribute("aria-label")
    row = next(
        row
        for row in json.loads((ROOT / "results" / "predicted.json").read_text())
        if row["script"].endswith("16_qlora.py")
    )
    assert f"parameters {row['breakdown_gb']['parameters']:.2f} GB" in told


@needs_browser
def test_it_reads_without_javascript(site, browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("#gpu-form").is_hidden()
    assert page.locator("table.bars tbody tr").count() == len(read_ladder())
    row = by_script(ROOT / "results" / "predicted.json")["11-16-under-1gb/16_qlora.py"]
    needs = f"{row['reserved_gb']:.2f}"
    assert needs in page.locator('tr[data-script$="16_qlora.py"]').inner_text()
