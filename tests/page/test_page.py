"""The page in a browser: it rates, lists, keeps, forgets, exports and imports, and opens no connection."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

THREE = {"The River Garden 8": "5", "Stone Garden 10": "1", "Winter Garden 11": "4.5"}


def opened(page, address):
    """The page, loaded; gives the list of what it asks for from now on."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def rate(page, title, stars):
    page.fill("#search", title)
    page.locator("#found select").first.select_option(stars)


def titles(page, where):
    return page.locator(f"{where} .title").all_inner_texts()


def test_three_ratings_change_the_list_stay_here_and_are_forgotten(page, address):
    asked, errors = opened(page, address), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.select_option("#raters", "0")
    first = titles(page, "#items")
    for title, stars in THREE.items():
        rate(page, title, stars)
    then = titles(page, "#items")
    assert then != first
    assert not any(listed.startswith(f"{title} (") for title in THREE for listed in then)
    assert sorted(title.split(" (")[0] for title in titles(page, "#own")) == sorted(THREE)
    assert "because you gave The River Garden 8 (1958) 5" in page.inner_text("#items")
    assert "nine in ten between" in page.locator("#items .soft").first.inner_text()
    assert asked == []
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.select_option("#raters", "0")
    assert titles(page, "#items") == then
    page.click("#forget")
    assert titles(page, "#own") == []
    assert titles(page, "#items") == first
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert titles(page, "#own") == []
    assert errors == []


def test_a_rating_that_is_taken_back_leaves_the_others_in_their_places(page, address):
    opened(page, address)
    for title, stars in THREE.items():
        rate(page, title, stars)
    before = titles(page, "#own")
    own = page.locator("#own select")
    page.evaluate("document.querySelector('#own select').dataset.kept = 'yes'")
    own.nth(1).select_option("")
    assert titles(page, "#own") == [before[0], before[2]]
    assert page.locator("#own select").first.get_attribute("data-kept") == "yes", "the line was made anew"
    page.fill("#search", before[1].split(" (")[0])
    page.locator("#found select").first.select_option("3")
    assert titles(page, "#own") == before
    assert page.locator("#own select").nth(1).input_value() == "3"


def test_ratings_are_exported_and_imported(page, address, tmp_path):
    opened(page, address)
    rate(page, "The River Garden 8", "5")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "mine.json")
    assert json.loads((tmp_path / "mine.json").read_text()) == {"9": 5}
    page.click("#forget")
    page.set_input_files("#import", str(tmp_path / "mine.json"))
    page.wait_for_selector("#own li")
    assert titles(page, "#own") == ["The River Garden 8 (1958)"]
    for wrong in ('{"9": 7}', "[1]", "no json", '{"9": "5"}'):
        (tmp_path / "wrong.json").write_text(wrong)
        page.set_input_files("#import", str(tmp_path / "wrong.json"))
        page.locator("#own-status", has_text="cannot be imported").wait_for()
        assert titles(page, "#own") == ["The River Garden 8 (1958)"]
        rate(page, "The River Garden 8", "5")


ATTEMPTS = {
    "fetch": "url => fetch(url).then(() => 'sent', () => 'blocked')",
    "beacon": "url => navigator.sendBeacon(url, 'x') ? 'asked' : 'blocked'",
    "image": "url => new Promise(done => { const i = new Image(); i.onload = () => done('sent');"
    " i.onerror = () => done('blocked'); i.src = url; })",
    "socket": "url => new Promise(done => { try { const s = new WebSocket(url.replace('http', 'ws'));"
    " s.onopen = () => done('sent'); s.onerror = () => done('blocked'); } catch (e) { done('blocked'); } })",
    "script": "url => new Promise(done => { const s = document.createElement('script'); s.onload = () => done('sent');"
    " s.onerror = () => done('blocked'); s.src = url; document.head.append(s); })",
    "form": "url => { const f = document.createElement('form'); f.action = url; f.method = 'post';"
    " document.body.append(f); f.submit(); return 'asked'; }",
    "frame": "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f);"
    " return 'asked'; }",
    "navigation": "url => { location.href = url; return 'asked'; }",
    "link": "url => { const a = document.createElement('a'); a.href = url; document.body.append(a); a.click();"
    " return 'asked'; }",
    "window": "url => { window.open(url); return 'asked'; }",
}


def test_nothing_reaches_another_place(page, address, web):
    """The other place is a web server that notes who calls; it is called last, to show that it would have noted."""
    web.asked.clear()
    opened(page, address)
    elsewhere = f"http://localhost:{web.server_address[1]}/elsewhere"
    rate(page, "The River Garden 8", "5")
    for name, attempt in ATTEMPTS.items():
        assert page.evaluate(attempt, f"{elsewhere}?{name}") in ("blocked", "asked"), name
    page.wait_for_timeout(300)
    assert page.url.startswith(address)
    assert titles(page, "#own") == ["The River Garden 8 (1958)"]
    assert not {path for path in web.asked if path.startswith("/elsewhere")}
    page.context.new_page().goto(f"{elsewhere}?told", wait_until="commit")
    assert {path for path in web.asked if path.startswith("/elsewhere")} == {"/elsewhere?told"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_keyboard_and_has_no_accessibility_violation(page, address, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not here: pip install '.[browser]'")
    page.emulate_media(color_scheme=scheme)
    opened(page, address)
    page.focus("#search")
    page.keyboard.type("river garden 8")
    page.keyboard.press("Tab")
    assert (
        page.evaluate("document.activeElement.getAttribute('aria-label')") == "Your stars for The River Garden 8 (1958)"
    )
    page.keyboard.type("5")
    assert titles(page, "#own") == ["The River Garden 8 (1958)"]
    assert page.evaluate("document.activeElement.dataset.item") == "9"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelector('details').open = true")
    page.evaluate((resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


def test_what_is_kept_and_damaged_is_told(page, address):
    opened(page, address)
    rate(page, "The River Garden 8", "5")
    page.evaluate("localStorage.setItem(localStorage.key(0), '{\"9\": 99}')")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert titles(page, "#own") == []


def test_the_page_says_what_it_publishes(page, site, address):
    opened(page, address)
    published = json.loads((site / "some" / "place" / "arrays.json").read_text(encoding="utf-8"))
    page.evaluate("document.querySelector('details').open = true")
    told = page.inner_text("#arrays")
    assert all(each["name"] in told for each in published["arrays"])
    assert published["licence"] in page.inner_text("#about")
    assert "AUC" in page.inner_text("#leak")
    assert not {"private", "user-"} & {path.name for path in Path(site).rglob("*")}
