"""The page as a person has it: opened from disk in headless Chromium."""

import base64
import json
import re
import shutil
from collections.abc import Iterator

import pandas as pd
import pytest

from analysis.report.changed import changed_rows
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


def shown_groups(page) -> dict[str, list[int]]:
    """Row numbers of all cards by the heading that they stand under, after asking for more until there is no more."""
    return page.execute_script(
        "for (const more of document.querySelectorAll('#gallery-list .more')) while (!more.hidden) more.click();"
        "const own = (g) => Array.from(g.querySelectorAll('.card'), (c) => Number(c.dataset.row));"
        "return Object.fromEntries(Array.from(document.querySelectorAll('.group'),"
        " (g) => [g.querySelector(':scope > h3')?.firstChild.textContent ?? '', own(g)]))"
    )


def shown_rows(page) -> list[int]:
    return [row for rows in shown_groups(page).values() for row in rows]


def text_of(page, name: str) -> str:
    return page.find_element("id", f"gallery-{name}").get_property("textContent")


def test_page_opens_from_disk_without_errors_or_requests(browser, report: Report) -> None:
    assert browser.title == "augment <b>tryout</b>"
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    page = report.path.resolve().as_uri()
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [one["request"]["url"] for one in sent if one["documentURL"] == page]
    assert [url for url in urls if not url.startswith("data:")] == [page]


def test_gallery_opens_on_what_the_winner_changed(page, report: Report) -> None:
    changes = changed_rows(report.results)
    assert text_of(page, "status") == f"{len(changes)} components in {len({row['image'] for row in changes})} images"
    assert page.execute_script("return document.querySelectorAll('.card').length") == 3 * 4
    groups = shown_groups(page)
    assert list(groups) == ["cured", "new", "shared"]
    for kind, rows in groups.items():
        assert rows == [row["row"] for row in changes if row["kinds"] == [kind]]
    page.execute_script("document.querySelector('#gallery-kinds button[data-kind=\"new\"]').click()")
    assert list(shown_groups(page)) == ["new"]


def test_changes_are_grouped_as_asked(page, report: Report) -> None:
    changes = changed_rows(report.results)
    for group, value_of in (("type", lambda row: row["type"]), ("class", lambda row: row["class"])):
        choose(page, "group", group)
        groups = shown_groups(page)
        assert set(groups) == {value_of(row) for row in changes}
        assert all(value_of(changes[row]) == name for name, rows in groups.items() for row in rows)
        assert sorted(shown_rows(page)) == list(range(len(changes)))


def test_ids_are_copied(page, report: Report) -> None:
    page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    page.execute_script("document.querySelector('#gallery-kinds button[data-kind=\"cured\"]').click()")
    page.find_element("id", "gallery-copy").send_keys("\n")
    ids = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])").split("\n")
    cured = [row["image"] for row in changed_rows(report.results) if row["kinds"] == ["cured"]]
    assert ids == list(dict.fromkeys(cured))
    assert text_of(page, "copied").startswith(f"{len(ids)} image id")


def test_a_failure_is_enlarged_and_left_by_the_keyboard(page) -> None:
    from selenium.webdriver.common.keys import Keys

    cards = page.find_elements("css selector", ".card")
    cards[0].send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element == cards[1]
    cards[1].send_keys(Keys.ENTER)
    dialog = page.find_element("id", "gallery-dialog")
    assert dialog.get_attribute("open") and text_of(page, "place").startswith("2 of ")
    small, large = (
        page.execute_script("return document.querySelector(arguments[0]).getBoundingClientRect().width", where)
        for where in (".card .canvas", "#gallery-large .canvas")
    )
    assert large > 1.5 * small
    area = page.find_element("id", "gallery-area")
    for key, name, states in (("o", "overlay", "photo"), ("e", "outlines", "off"), ("z", "zoom", "on")):
        page.switch_to.active_element.send_keys(key)
        assert area.get_attribute(f"data-{name}") == states
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert text_of(page, "place").startswith("3 of ")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.get_attribute("open")
    assert page.switch_to.active_element == cards[2]


def test_every_cause_filters_to_exactly_its_rows(page, failures: pd.DataFrame) -> None:
    choose(page, "view", "regions")
    kinds = page.execute_script(
        "return Array.from(document.querySelectorAll('#gallery-kinds button'), (b) => b.dataset.kind)"
    )
    assert len(kinds) >= 3
    for cause in kinds:
        page.execute_script(
            'document.querySelector(`#gallery-kinds button[data-kind="${arguments[0]}"]`).click()', cause
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
    choose(page, "view", "regions")
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
    assert text_of(page, "status") == "No failure matches."


def test_failures_are_sorted_as_asked(page, failures: pd.DataFrame) -> None:
    choose(page, "view", "regions")
    assert page.execute_script("return document.querySelectorAll('.card').length") == 12
    assert list(failures["iou"].iloc[shown_rows(page)]) == sorted(failures["iou"])
    choose(page, "order", "best")
    assert list(failures["iou"].iloc[shown_rows(page)]) == sorted(failures["iou"], reverse=True)


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


def test_filters_can_be_used_with_the_keyboard(page) -> None:
    from selenium.webdriver.common.keys import Keys

    chip = page.find_elements("css selector", "#gallery-kinds button")[1]
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


PAPER = 688
"""Pixels between the margins of an A4 page."""


def printed_pages(page) -> int:
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})["data"])
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def on_paper(page) -> tuple[int, list[str]]:
    """By how much the page is wider than the paper, and which sections are on it."""
    size = {"width": PAPER, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        return page.execute_script(
            "const shown = [...document.querySelectorAll('section')].filter((one) => one.offsetHeight);"
            "const root = document.documentElement;"
            "return [root.scrollWidth - root.clientWidth, shown.map((one) => one.id)]"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_print_is_a_summary_unless_everything_is_asked_for(page) -> None:
    assert 1 <= printed_pages(page) <= 4
    assert on_paper(page) == [0, ["answer", "comparison", "errors", "changes"]]
    page.execute_script("document.querySelector('button.print').click()")
    assert printed_pages(page) > 6
    over, sections = on_paper(page)
    assert over == 0 and sections == page.execute_script(
        "return [...document.querySelectorAll('section')].map((one) => one.id)"
    )


def test_what_is_drawn_is_described_for_those_who_cannot_see_it(page) -> None:
    unnamed = page.execute_script(
        "const all = [...document.querySelectorAll('svg[role], [role=img], [role=region], nav, dialog, section')];"
        "return all.filter((e) => !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).length"
    )
    assert unnamed == 0
    assert page.execute_script("return [...document.querySelectorAll('th')].every((h) => h.scope)")
    assert page.execute_script("return document.querySelectorAll('header.top, nav, main').length") == 3
    assert page.execute_script("return [...document.querySelectorAll('img')].every((i) => i.hasAttribute('alt'))")


def test_hostile_names_ran_nothing(page) -> None:
    assert (
        page.execute_script("return document.querySelectorAll('main b b, .card script, .card img[src=\"x\"]').length")
        == 0
    )
    titles = page.execute_script("return Array.from(document.querySelectorAll('.card h3'), (h) => h.textContent)")
    assert titles
    options = page.execute_script("return Array.from(document.getElementById('gallery-class').options, (o) => o.value)")
    assert "<script>alert(1)</script>" in options or "50%_of $a & #b {c}" in options
