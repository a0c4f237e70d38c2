"""The report in a real browser: everything is drawn, nothing is complained of, nothing leaves the page."""

import threading

import pytest

from runtime.report import report
from runtime.report.server import make_server
from tests.runtime.browser import Browser, find_browser
from tests.runtime.synthetic_run import hostile_candidates, synthetic_candidates, synthetic_run

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no chromium or chrome on PATH")

COLUMN = """[...document.querySelectorAll('#ranking tbody tr')].map((row) => Number(row.cells[{}].dataset.value))"""
CLICK = "document.querySelectorAll('#ranking th button')[{}].click()"
PLOTTED = "document.documentElement.dataset.plotted !== undefined"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def candidates():
    return synthetic_candidates(40)


@pytest.fixture(scope="module")
def address(tmp_path_factory, candidates):
    return report(synthetic_run(tmp_path_factory.mktemp("report") / "run", candidates).folder).as_uri()


@pytest.fixture(scope="module")
def page(browser, address):
    """The report, loaded once; a test leaves it as it found it."""
    return opened(browser, address)


def opened(browser, address):
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(address)
    browser.wait(PLOTTED)
    return browser


def test_every_plot_and_drawing_is_there_and_nothing_is_complained_of(page, address):
    assert page.run("[...document.querySelectorAll('.plot')].map((plot) => plot.id)") == [
        "plot-scores", "plot-pareto-parameters", "plot-pareto-operations", "plot-pareto-latency", "plot-priorities",
        "plot-priorities-kind", "plot-priorities-kernel-size",
    ]  # fmt: skip
    assert page.run(
        "[...document.querySelectorAll('.plot')].every((plot) =>"
        " plot.querySelectorAll('.main-svg .trace, .main-svg .hm image, .main-svg .hm').length > 0)"
    )
    assert page.run("document.querySelectorAll('#candidates details > .picture > svg.drawing').length") >= 20
    assert page.run(
        "(() => { document.querySelectorAll('details').forEach((d) => { d.open = true; });"
        " return [...document.querySelectorAll('svg.drawing')].every((d) => d.getBBox().width > 100); })()"
    )
    assert page.complaints == []
    outside = [request for request in page.requests if not request.startswith(("data:", "blob:"))]
    assert outside == [address]


def test_a_click_on_a_head_sorts_and_a_second_one_turns_the_order(page, candidates):
    scores = [c.score for c in sorted(candidates, key=lambda c: -(c.score or -9e9)) if c.ok]
    assert page.run(COLUMN.format(2)) == scores
    page.run(CLICK.format(2))
    assert page.run(COLUMN.format(2)) == scores[::-1]
    page.run(CLICK.format(2))
    assert page.run(COLUMN.format(2)) == scores
    page.run(CLICK.format(1))
    assert page.run(COLUMN.format(1)) == sorted(c.index for c in candidates if c.ok)
    assert page.run("document.querySelectorAll('#ranking th[aria-sort]').length") == 1
    assert page.complaints == []


@pytest.mark.parametrize("dark", [True, False])
def test_plots_and_drawings_can_be_read_in_light_and_in_dark(page, dark):
    page.show(dark=dark)
    ink = "getComputedStyle(document.querySelector('#plot-scores .xtick text')).fill"
    page.wait(f"{ink} === getComputedStyle(document.body).color")  # plotly draws it again
    colours = page.run(
        "(() => { const of = (place, what) => getComputedStyle(document.querySelector(place))[what];"
        " return [of('body', 'backgroundColor'), of('body', 'color'), of('#plot-scores .xtick text', 'fill'),"
        " of('#plot-priorities .ytick text', 'fill'), of('.drawing text', 'fill')]; })()"
    )
    paper, *inks = [luminance(colour) for colour in colours]
    assert (paper < 0.5) == dark
    for ink in inks:
        bright, low = max(ink, paper), min(ink, paper)
        assert (bright + 0.05) / (low + 0.05) > 4.5  # the contrast that WCAG 2 asks of text


def luminance(colour):
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


HEIGHTS = "[...document.querySelectorAll('.plot .main-svg:first-child')].map((s) => s.clientHeight)"


def test_on_a_phone_nothing_is_wider_than_the_screen_and_no_plot_is_squeezed(page):
    heights = page.run(HEIGHTS)
    page.show(width=390, height=844)
    page.wait("[...document.querySelectorAll('.plot .main-svg')].every((s) => s.clientWidth <= 390)")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert all(small >= large for small, large in zip(page.run(HEIGHTS), heights, strict=True))
    assert min(heights) >= 120 + 24 * 2  # a heat map has a row for each of at least two choices
    page.show()


def test_a_link_to_a_candidate_opens_it(page):
    last = page.run("[...document.querySelectorAll('#candidates details')].at(-1).id")
    page.run(f"location.hash = '#{last}'")
    page.wait(f"document.querySelector('#{last}').open")


def test_names_that_hold_html_do_nothing(browser, tmp_path):
    harm = "window.harmed = 1"
    text = f'</script><img src="https://example.invalid/x" onerror="{harm}"><script>{harm}</script>'
    run = synthetic_run(tmp_path / "run", hostile_candidates(text))
    address = report(run.folder).as_uri()
    opened(browser, address)
    assert browser.run("window.harmed") is None
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.querySelector('.reason').textContent") == text
    assert [r for r in browser.requests if not r.startswith(("data:", "blob:"))] == [address]
    assert browser.complaints == []


@pytest.mark.long
def test_a_served_page_loads_itself_again_when_the_search_goes_on(browser, tmp_path):
    candidates = synthetic_candidates(3)
    run = synthetic_run(tmp_path / "run", candidates[:2])
    with make_server(run.folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            opened(browser, f"http://127.0.0.1:{server.server_address[1]}/")
            count = "document.querySelectorAll('#ranking tbody tr').length"
            assert browser.run(count) == 2
            with run.open_study() as study:
                study.add(candidates[2])
            browser.wait(f"{count} === 3")
            assert browser.complaints == []
            browser.open("about:blank")  # it asks no more
        finally:
            server.shutdown()
            thread.join()
