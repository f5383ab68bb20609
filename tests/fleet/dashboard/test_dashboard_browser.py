"""The pages in a real browser: sign-in by keyboard, live figures, no script from a device, a phone's width."""

from __future__ import annotations

import pytest
from tests.fleet.conftest import ACTOR
from tests.fleet.dashboard.chromium import Browser
from tests.fleet.dashboard.conftest import House

from skerry_fleet import apikeys
from skerry_fleet.dashboard import alert_pages, measure_pages, site_pages
from skerry_fleet.dashboard.routes import router
from skerry_fleet.rollout_words import Order

pytestmark = pytest.mark.browser


def pages(house: House) -> list[str]:
    rooms = (router, alert_pages.router, measure_pages.router, site_pages.router)
    plain = [str(getattr(each, "path", "{")) for room in rooms for each in room.routes]
    plain = [each for each in plain if "{" not in each and each != "/ui/mutes"]
    plain += ["/ui/rollouts/new", "/ui/search?q=p", "/ui/sites?by=floor"]
    assert "/ui/alerts" in plain
    one = [f"/ui/devices/{house.bad}", f"/ui/rollouts/{house.rollout}", f"/ui/rollouts/{house.rollout}/abort"]
    left_out = ("/", "/ui", "/ui/events", "/ui/audit/export")  # the last is saved, not shown
    return (
        [each for each in plain if each not in left_out] + one + ["/ui/models/digits", "/ui/drift/digits", "/ui/nope"]
    )


def test_no_page_scrolls_sideways_on_a_phone_or_runs_what_a_device_wrote(full: House, browser: Browser) -> None:
    found = full.bench.assignment(full.bad)
    assert found is not None
    for dark in (False, True):
        browser.look(390, 844, dark=dark)
        for page in [*pages(full), f"/ui/bundles/{found.models[0].bundle}"]:
            browser.go(full.url + page)
            assert browser.run("document.documentElement.scrollWidth") <= 390, page
            assert browser.run("document.title").endswith("· Skerry"), page
    complaints = [each for each in browser.console if "404 (Not Found)" not in each]
    assert complaints == []  # no error of a script, nothing that the content security policy had to stop


def test_figures_follow_the_fleet_without_a_reload(full: House, browser: Browser) -> None:
    browser.wait("document.getElementById('link').dataset.state === 'live'")
    browser.run("window.__same = true; document.querySelector('a.tile').id = 'probe'")
    assert browser.run("document.querySelector('.tile b').textContent") == "14"
    full.bench.enrol("late-one", "late-two")
    browser.wait("document.querySelector('.tile b').textContent === '16'")
    assert browser.run("window.__same") is True
    browser.go(f"{full.url}/ui/rollouts/{full.rollout}")
    browser.wait("document.getElementById('link').dataset.state === 'live'")
    browser.run("document.getElementById('order-abort').focus()")
    with full.fleet.rollouts.open() as session:
        full.fleet.rollouts.order(session, ACTOR, full.bench.clock(), full.rollout, Order.PAUSE)
    browser.wait("document.querySelector('.state').textContent === 'paused'")
    assert browser.run("document.activeElement.id") == "order-abort"  # the keyboard's place is kept


def test_a_rollout_is_stopped_with_the_keyboard(full: House, browser: Browser) -> None:
    browser.go(f"{full.url}/ui/rollouts/{full.rollout}")
    browser.run("document.getElementById('order-rollback').focus(); window.__old = true")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    browser.arrived()
    assert "Roll back this rollout?" in browser.run("document.body.innerText")
    browser.run("document.getElementById('reason').focus()")
    browser.type("the doorbell rings at night")
    browser.run("window.__old = true")
    browser.press("Enter", 13, "\r")
    browser.arrived()
    assert browser.run("location.pathname") == f"/ui/rollouts/{full.rollout}"
    assert "the doorbell rings at night" in browser.run("document.body.innerText")
    assert browser.run("document.querySelector('.state').textContent") == "rolling-back"


def test_a_session_that_ends_leads_to_the_sign_in(full: House, browser: Browser) -> None:
    browser.wait("document.getElementById('link').dataset.state === 'live'")
    with full.fleet.database.write() as session:
        apikeys.revoke(session, ACTOR, full.bench.clock(), full.keys["operator"].split("_")[1])
    full.bench.enrol("late-one")
    browser.wait("location.pathname === '/ui/sign-in'")
