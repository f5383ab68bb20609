"""A rollout from a form to its end with the keyboard, the search, and single keys, in a real browser."""

from __future__ import annotations

import pytest
from tests.fleet.dashboard.chromium import Browser
from tests.fleet.dashboard.conftest import House, publish

pytestmark = pytest.mark.browser


def enter(browser: Browser) -> None:
    browser.run("window.__old = true")
    browser.press("Enter", 13, "\r")
    browser.arrived()


def focus(browser: Browser, name: str) -> None:
    assert browser.run(f"document.getElementById({name!r}).focus(); document.activeElement.id") == name


def test_a_rollout_is_started_with_the_keyboard_after_its_dry_run(full: House, browser: Browser) -> None:
    third = publish(full.bench, "3", 3)
    browser.go(f"{full.url}/ui/rollouts")
    focus(browser, "new-rollout")
    enter(browser)
    assert third in browser.run("[...document.getElementById('bundle').options].map(each => each.value).join()")
    focus(browser, "waves")
    browser.run(f"document.getElementById('bundle').value = {third!r}; document.getElementById('waves').select()")
    browser.type("fifty")
    enter(browser)
    assert "'fifty' is no number" in browser.run("document.querySelector('.problem').innerText")
    assert browser.run("document.getElementById('bundle').value") == third  # nothing that was chosen is lost
    focus(browser, "waves")
    browser.run("document.getElementById('waves').select()")
    browser.type("50, 100 %")
    enter(browser)
    assert "in rollout" in browser.run("document.body.innerText")  # the one under way holds its devices
    assert browser.run("document.getElementById('start')") is None
    browser.run("document.querySelector('[name=change]').focus()")
    enter(browser)
    browser.run("document.getElementById('supersede').click(); document.getElementById('waves').focus()")
    enter(browser)
    text = browser.run("document.body.innerText")
    assert "wave 1 (50 %)" in text and "14 devices" in text
    focus(browser, "start")
    enter(browser)
    assert browser.run("location.pathname").startswith("/ui/rollouts/r3-")
    assert browser.run("document.querySelector('.state').textContent") == "running"


def test_a_name_is_found_from_any_page(full: House, browser: Browser) -> None:
    browser.press("/", 191, "/")
    assert browser.run("document.activeElement.id") == "find"
    browser.type("porch-0")
    enter(browser)
    assert browser.run("document.querySelectorAll('.plain a').length") == 9
    focus(browser, "find")
    browser.type(full.bad)
    enter(browser)
    assert browser.run("location.pathname") == f"/ui/devices/{full.bad}"
    browser.press("g", 71, "g")
    browser.run("window.__old = true")
    browser.press("s", 83, "s")
    browser.arrived()
    assert browser.run("location.pathname") == "/ui/sites"
    browser.press("?", 191, "?")
    assert browser.run("document.getElementById('keys').open") is True
    focus(browser, "by")
    browser.press("g", 71, "g")
    browser.press("d", 68, "d")  # into the field, not to the devices
    assert browser.run("location.pathname") == "/ui/sites"
