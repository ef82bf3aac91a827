"""The site in a real browser: its explorer's answers are the commands'."""

import json
import re
import shutil
from itertools import pairwise

import pytest

from ladder.rows import by_script
from ladder.rungs import ROOT, diff, read_ladder, reading_order, stem
from tests import warm
from tests.helpers import run

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


def test_one_navigation_in_the_order_of_the_ladder(site):
    names = [stem(rung.script) for rung in reading_order(read_ladder())]
    pages = [(site / "ladder" / f"{name}.html").read_text() for name in names]
    for (name, page), (later, next_page) in pairwise(zip(names, pages, strict=True)):
        assert re.search(r'class="next-page" href="([^"]*)"', page)[1] == f"{later}.html"
        assert re.search(r'class="prev-page" href="([^"]*)"', next_page)[1] == f"{name}.html"
        assert "all rungs" not in page


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
    first = re.findall(r"\n  ViT-.*: python (\S+)", process.stdout)
    assert len(first) == 4
    assert front_page.get_attribute("#answer", "data-first").split() == first
    links = front_page.locator("#answer a").all()
    assert [link.inner_text() for link in links] == [f"python {script}" for script in first]
    assert [link.get_attribute("href") for link in links] == [
        f"ladder/{stem(script)}.html" for script in first
    ]


@needs_browser
def test_what_is_no_size_gets_a_word(front_page):
    for size in ("", "-3", "0"):
        front_page.fill("#gb", size)
        assert "a number above 0" in front_page.inner_text("#answer")
        assert set(front_page.locator("td.fit").all_inner_texts()) == {""}
        assert front_page.locator(".need").first.get_attribute("visibility") == "hidden"
        front_page.fill("#gb", "8")
        assert "fits 8 GB" in front_page.inner_text("#answer")


@needs_browser
def test_what_is_chosen_is_in_the_address(site, browser, front_page):
    assert "?" not in front_page.url
    front_page.fill("#gb", "12")
    front_page.press("#gb", "Enter")
    assert front_page.url.endswith("?gpu=12")
    front_page.select_option("#gpu", "T4")
    front_page.select_option("#to", "16_qlora")
    assert front_page.url.endswith("?gpu=T4&to=16_qlora")
    told = front_page.inner_text("#answer")
    other = browser.new_page()
    other.goto(front_page.url)  # a shared link
    assert other.inner_text("#answer") == told
    assert other.input_value("#gpu") == "T4"
    assert other.input_value("#to") == "16_qlora"
    other.goto((site / "index.html").as_uri() + "?gpu=nothing&from=no-script")
    assert "a number above 0" in other.inner_text("#answer")
    assert other.input_value("#from") == "02_mixed-precision"
    other.close()
    for size in ("15.6", "12", "8"):
        front_page.go_back()
        assert front_page.input_value("#gb") == size
    assert front_page.input_value("#gpu") == ""
    assert "fits 8 GB" in front_page.inner_text("#answer")


@needs_browser
def test_a_row_has_batch_and_flops(front_page):
    cells = front_page.locator('tr[data-script$="13_batch-64.py"] td').all_inner_texts()
    row = by_script(ROOT / "results" / "predicted.json")["11-16-under-1gb/13_batch-64.py"]
    assert cells[1:3] == [f"{row['reserved_gb']:.2f}", "64"]
    assert re.fullmatch(r"× 1\.\d\d", cells[3])


@needs_browser
def test_the_line_of_the_chosen_gpu(front_page):
    front_page.fill("#gb", "8")
    figures = by_script(ROOT / "results" / "predicted.json")
    line = front_page.locator(".need path").first.bounding_box()
    y = line["y"] + line["height"] / 2
    above = below = 0
    for mark in front_page.locator(".picture").first.locator("[data-script]").all():
        circle = mark.locator("circle").bounding_box()
        place = circle["y"] + circle["height"] / 2
        needs = figures[mark.get_attribute("data-script")]["reserved_gb"]
        room = 8 - 0.8  # about what CUDA's context and kernels leave
        if abs(needs - room) > 0.4:
            assert (place < y) == (needs > room)
        above, below = above + (place < y), below + (place > y)
    assert above > 3
    assert below > 10


@needs_browser
def test_a_gpu_without_bfloat16_runs_no_bfloat16(front_page):
    front_page.select_option("#gpu", "T4")
    row = front_page.locator('tr[data-script="03_bfloat16.py"] .fit')
    assert row.inner_text().endswith("needs bfloat16")
    assert "11-3_float16-mixed.py" in front_page.inner_text("#answer")  # a variant, but it runs


@needs_browser
def test_differences(front_page):
    for rung in [rung for rung in read_ladder() if rung.parent][::4]:
        front_page.select_option("#from", stem(rung.parent))
        front_page.select_option("#to", stem(rung.script))
        last = f"+++ {rung.script}"
        front_page.wait_for_function(
            f"document.querySelector('#difference').innerText.includes({json.dumps(last)})"
        )
        assert front_page.text_content("#difference") == "\n".join([*diff(rung), ""])
    front_page.select_option("#from", stem(rung.script))
    front_page.wait_for_function("document.querySelector('#difference').children.length == 1")
    assert front_page.text_content("#difference") == " no difference\n"


@needs_browser
def test_a_difference_that_cannot_be_loaded(front_page):
    front_page.evaluate("element('from').options[0].value = 'gone'")
    front_page.select_option("#from", "gone")
    front_page.wait_for_function(
        "document.querySelector('#difference').innerText.includes('could not be loaded')"
    )


@needs_browser
def test_bars_tell_their_split_to_the_keyboard(front_page):
    from playwright.sync_api import expect

    front_page.set_viewport_size({"width": 390, "height": 800})
    bar = front_page.locator('tr[data-script$="16_qlora.py"] .bar')
    bar.focus()
    expect(bar).to_be_in_viewport()  # the page scrolls smoothly
    assert 0 <= front_page.locator("#split").bounding_box()["y"] < 100  # it stays in view
    told = front_page.inner_text("#split")
    assert told == bar.get_attribute("aria-label")
    row = next(
        row
        for row in json.loads((ROOT / "results" / "predicted.json").read_text())
        if row["script"].endswith("16_qlora.py")
    )
    assert f"parameters {row['breakdown_gb']['parameters']:.2f} GB" in told


CONTRAST = """() => {
    const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number)
        .map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = light(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll(".picture text")].map((text) => {
        const ink = light(getComputedStyle(text).fill);
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    });
}"""


@needs_browser
def test_pictures_have_the_colours_of_the_page(site, browser):
    page = browser.new_page()
    page.goto((site / "ladder" / "05_gradient-accum.html").as_uri())
    for scheme in ("light", "dark"):
        for theme in ("auto", "light", "dark"):  # the reader's choice on the page
            page.emulate_media(color_scheme=scheme)
            page.evaluate(f"document.body.dataset.theme = '{theme}'")
            contrasts = page.evaluate(CONTRAST)
            assert len(contrasts) > 20
            assert min(contrasts) >= 4.5, (scheme, theme)  # of WCAG's level AA
            ground = "getComputedStyle(document.querySelector('.picture .p')).fill"
            assert page.evaluate(ground) == "none"
    page.close()


@needs_browser
def test_pictures_on_a_phone_are_readable_and_tell_phases_on_demand(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((site / "ladder" / "05_gradient-accum.html").as_uri())
    heights = page.evaluate(
        """() => [...document.querySelectorAll(".picture text")].map((text) =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(heights) > 9  # pixels
    phase = page.locator('.picture .d[aria-label^="optimizer step"]').last
    label = phase.locator(".t")
    assert not label.is_visible()
    phase.focus()
    assert label.is_visible()
    assert label.text_content() == phase.get_attribute("aria-label")
    phase.locator("rect").hover()
    assert label.is_visible()
    page.close()


@needs_browser
def test_it_reads_without_javascript(site, browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("#gpu-form").is_hidden()
    assert page.locator("table.bars tbody tr").count() == len(read_ladder())
    row = by_script(ROOT / "results" / "predicted.json")["11-16-under-1gb/16_qlora.py"]
    needs = f"{row['reserved_gb']:.2f}"
    assert needs in page.locator('tr[data-script$="16_qlora.py"]').inner_text()
