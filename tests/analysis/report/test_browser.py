"""The page as a person has it: opened from disk in headless Chromium."""

import json
import shutil
from collections.abc import Iterator

import pandas as pd
import pytest

from analysis.report.writing import Report, write_report

from ..synthetic_run import make_results

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium or chromedriver is not installed"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    results, data = make_results(tmp_path_factory.mktemp("runs") / "run", hostile=True)
    return write_report(results, data)


@pytest.fixture(scope="module")
def failures(report: Report) -> pd.DataFrame:
    return pd.read_csv(report.path.parent / "tables" / "failures.csv")


@pytest.fixture(scope="module")
def browser(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get_log("performance")
    driver.get(report.path.resolve().as_uri())
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    """The page as just opened."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.refresh()
    return browser


def choose(page, field: str, value: str) -> None:
    page.execute_script(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        f"gallery-{field}",
        value,
    )


def shown_rows(page) -> list[int]:
    """Row numbers of all cards, after asking for more until there is no more."""
    return page.execute_script(
        "const more = document.getElementById('gallery-more'); while (!more.hidden) more.click();"
        "return Array.from(document.querySelectorAll('.card'), (c) => Number(c.dataset.row))"
    )


def test_page_opens_from_disk_without_errors_or_requests(browser, report: Report) -> None:
    assert browser.title == "augment <b>tryout</b>"
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    page = report.path.resolve().as_uri()
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [one["request"]["url"] for one in sent if one["documentURL"] == page]
    assert [url for url in urls if not url.startswith("data:")] == [page]


def test_every_cause_filters_to_exactly_its_rows(page, failures: pd.DataFrame) -> None:
    chips = page.execute_script(
        "return Array.from(document.querySelectorAll('#gallery-causes button'), (b) => b.dataset.cause)"
    )
    assert len(chips) >= 3
    for cause in chips:
        page.execute_script(
            'document.querySelector(`#gallery-causes button[data-cause="${arguments[0]}"]`).click()', cause
        )
        wanted = cause.replace("confused with another class", "confused with ")
        expected = [
            row
            for row, causes in enumerate(failures["causes"])
            if any(c.startswith(wanted) for c in causes.split("; "))
        ]
        assert sorted(shown_rows(page)) == expected
        assert expected


def test_label_class_and_search_narrow_together(page, failures: pd.DataFrame) -> None:
    name = failures["class"].iloc[0]
    choose(page, "label", "best")
    choose(page, "class", name)
    choose(page, "search", "PLAIN")
    expected = failures[
        (failures["label"] == "best") & (failures["class"] == name) & failures["image_id"].str.contains("plain")
    ]
    assert sorted(shown_rows(page)) == list(expected.index)


def test_nothing_found_is_said(page) -> None:
    choose(page, "search", "no such image")
    assert shown_rows(page) == []
    assert page.execute_script("return document.getElementById('gallery-status').textContent") == "No failure matches."


def test_failures_are_sorted_as_asked(page, failures: pd.DataFrame) -> None:
    assert list(failures["iou"].iloc[shown_rows(page)]) == sorted(failures["iou"])
    choose(page, "order", "best")
    assert list(failures["iou"].iloc[shown_rows(page)]) == sorted(failures["iou"], reverse=True)


def test_only_a_screenful_of_failures_is_built_at_first(page) -> None:
    assert page.execute_script("return document.querySelectorAll('.card').length") == 12


def test_every_picture_decodes(page) -> None:
    shown_rows(page)
    sizes = page.execute_async_script(
        "const done = arguments[0]; const all = Array.from(document.images);"
        "Promise.all(all.map((i) => i.decode().then(() => i.naturalWidth, () => 0))).then(done)"
    )
    assert len(sizes) > 100 and min(sizes) > 0


def test_tables_sort_by_number_both_ways(page) -> None:
    script = (
        'const h = document.querySelector(\'table[data-table="comparison"] th[data-column="iou"]\');'
        "h.querySelector('button').click();"
        "return [h.getAttribute('aria-sort'), Array.from(h.closest('table').tBodies[0].rows,"
        " (r) => Number(r.cells[h.cellIndex].dataset.value))]"
    )
    direction, values = page.execute_script(script)
    assert direction == "ascending" and values == sorted(values) and len(set(values)) > 2
    direction, values = page.execute_script(script)
    assert direction == "descending" and values == sorted(values, reverse=True)


def test_rows_without_a_value_sort_last(page) -> None:
    script = (
        'const h = document.querySelector(\'table[data-table="trials"] th[data-column="val/miou"]\');'
        "h.querySelector('button').click();"
        "return Array.from(h.closest('table').tBodies[0].rows, (r) => r.cells[h.cellIndex].textContent)"
    )
    assert page.execute_script(script)[-1] == ""
    assert page.execute_script(script)[-1] == ""


def test_gallery_can_be_used_with_the_keyboard(page) -> None:
    from selenium.webdriver.common.keys import Keys

    chip = page.find_elements("css selector", "#gallery-causes button")[1]
    chip.send_keys(Keys.ENTER)
    assert chip.get_attribute("aria-pressed") == "true"
    page.find_element("id", "gallery-search").send_keys("plain")
    assert all("plain" in card.text for card in page.find_elements("css selector", ".card .where"))


@pytest.mark.parametrize("width", [400, 760, 1400])
def test_page_never_scrolls_sideways(page, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_theme_can_be_chosen_and_reaches_figures(page) -> None:
    script = (
        "return [getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('figure svg text')).fill]"
    )
    button = page.find_element("css selector", "button.theme")
    seen = []
    for theme in ("light", "dark"):
        page.execute_script("arguments[0].click()", button)
        assert theme in button.get_property("textContent")
        seen.append(page.execute_script(script))
    assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]


def test_hostile_names_ran_nothing(page) -> None:
    assert (
        page.execute_script("return document.querySelectorAll('main b b, .card script, .card img[src=\"x\"]').length")
        == 0
    )
    titles = page.execute_script("return Array.from(document.querySelectorAll('.card h3'), (h) => h.textContent)")
    assert titles
    options = page.execute_script("return Array.from(document.getElementById('gallery-class').options, (o) => o.value)")
    assert "<script>alert(1)</script>" in options or "50%_of $a & #b {c}" in options
