"""What people do with the console, in a real browser, against the real functions on the runner."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from typing import Any

import pytest
from google.cloud import firestore

from runner.session import Session
from tests.console import app_data
from tests.console.conftest import AXE, NewPage

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]

PAGES = {
    "groups": "/",
    "search": "/?by=id&q=lis",
    "group": "/groups/lisbon",
    "pairs": "/groups/lisbon?debts=pairs&who=ana",
    "crowd": "/groups/festival-%F0%9F%8E%AA-2026?debts=pairs",
    "verify": "/groups/lisbon/verify",
    "why": "/groups/lisbon/why?from=bo&to=ana",
    "entries": "/groups/lisbon/entries",
    "settlement": "/groups/lisbon/entries?kind=settlement",
    "document": "/groups/lisbon/document?path=expenses/dinner",
    "events": "/events",
    "on call": "/oncall",
    "runbook": "/runbook",
    "workbench": "/workbench?path=expenses/dinner",
    "fault": "/workbench?path=expenses/broken",
    "missing": "/nowhere",
}


def tell(figure: str) -> None:
    """Show a figure with the test's output (pytest -rP)."""
    sys.stderr.write(f"{figure}\n")


def new_group(page: Any, url: str, group_id: str, members: str = "ana, bo, chidi") -> None:
    page.goto(url + "/")
    page.get_by_label("Id", exact=True).fill(group_id)
    page.get_by_label("Members, with commas").fill(members)
    page.get_by_role("button", name="Create the group").click()
    page.wait_for_url(f"**/groups/{group_id}")


def add_expense(page: Any, amount: str, payer: str = "ana", currency: str = "EUR", document_id: str = "") -> None:
    page.get_by_role("link", name="Add an expense").click()
    page.get_by_label("Who paid").select_option(payer)
    page.get_by_label("Amount").fill(amount)
    page.get_by_label("Currency").fill(currency)
    page.get_by_role("button", name="Save").click()


def test_an_expense_from_the_form_shows_in_the_graph_within_two_seconds(new_page: NewPage, url: str) -> None:
    page = new_page()
    new_group(page, url, "two-seconds")
    add_expense(page, "9.00")
    began = time.monotonic()
    page.locator("svg.flow path.ribbon").first.wait_for()
    assert page.locator("svg.flow path.ribbon").count() == 2
    # Two seconds are wanted; a loaded machine gets the page's whole patience, and the figure is told.
    tell(f"the graph changed after {time.monotonic() - began:.2f} s")
    assert page.locator("table.bars tbody").inner_text().split() == [
        "ana",
        "6.00",
        "EUR",
        "bo",
        "-3.00",
        "EUR",
        "chidi",
        "-3.00",
        "EUR",
    ]
    # The page that stands open follows: no reload.
    other = new_page()
    other.goto(page.url)
    other.locator(".live[data-state=live]").wait_for()
    add_expense(page, "30", payer="bo")
    other.get_by_text("17.00 EUR").first.wait_for()


def test_a_document_is_edited_deleted_and_restored(new_page: NewPage, url: str, client: firestore.Client) -> None:
    page = new_page()
    new_group(page, url, "changes")
    add_expense(page, "9.00")
    page.locator("svg.flow path.ribbon").first.wait_for()
    page.get_by_role("link", name="Add an expense").click()
    page.get_by_role("link", name="edit expenses/").click()
    assert page.get_by_label("Share of bo").input_value() == "3.00"
    page.get_by_label("Share of bo").fill("2")
    page.get_by_label("Share of chidi").fill("4")
    page.get_by_role("button", name="Save").click()
    page.locator("table.bars").get_by_text("-4.00 EUR").wait_for()
    page.get_by_role("link", name="Add an expense").click()
    page.get_by_role("link", name="delete, restore, JSON").click()
    here = page.url
    page.get_by_role("button", name="Mark as deleted").click()
    page.get_by_text("Nobody owes anybody anything").wait_for()
    page.goto(here)
    page.get_by_role("button", name="Restore").click()
    page.locator("svg.flow path.ribbon").first.wait_for()
    page.goto(here)
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("Nobody owes anybody anything").wait_for()
    assert not list(client.collection("expenses").where(filter=firestore.FieldFilter("groupId", "==", "changes")).stream())


def test_a_settlement_from_the_form_settles(new_page: NewPage, url: str) -> None:
    page = new_page()
    new_group(page, url, "settled", "ana, bo")
    add_expense(page, "9.00")
    page.locator("svg.flow path.ribbon").first.wait_for()
    page.get_by_role("link", name="Settle up").click()
    page.get_by_label("Who pays").select_option("bo")
    page.get_by_label("Whom").select_option("ana")
    page.get_by_label("Amount").fill("4.50")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Nobody owes anybody anything").wait_for()
    page.get_by_text("bo owes ana 4.50 EUR less").wait_for()


def test_a_wrong_entry_is_told_and_nothing_is_lost(new_page: NewPage, url: str) -> None:
    page = new_page()
    new_group(page, url, "wrong")
    add_expense(page, "9.001")
    page.get_by_role("alert").get_by_text("more decimals").wait_for()
    assert page.get_by_label("Amount").input_value() == "9.001"


def test_a_balance_corrupted_by_hand_is_seen_and_repaired(
    new_page: NewPage, url: str, session: Session, client: firestore.Client
) -> None:
    page = new_page()
    new_group(page, url, "corrupt", "ana, bo")
    add_expense(page, "20")
    page.locator("svg.flow path.ribbon").first.wait_for()
    session.drain()
    path = ("balancesByCurrency", "EUR", "ana", "netBalance")
    client.document("groups/corrupt/metadata/balance").update({".".join(path): 99})
    page.get_by_role("link", name="Verify", exact=True).click()
    row = page.locator("tr.differs").filter(has_text="net balance of ana")
    assert row.inner_text().split() == ["net", "balance", "of", "ana", "differs", "99.00", "EUR", "10.00", "EUR"]
    assert "balance verify --group corrupt --repair --project demo-console" in page.locator("code.command").first.inner_text()
    page.get_by_role("button", name="Rebuild this balance").click()
    page.get_by_text("Stored and recalculated agree").wait_for()
    assert client.document("groups/corrupt/metadata/balance").get().get(".".join(path)) == 10


def test_a_faulty_document_appears_with_its_reason_and_goes_when_it_is_healed(
    new_page: NewPage, url: str, client: firestore.Client
) -> None:
    page = new_page()
    new_group(page, url, "faulty", "ana, bo")
    bad = app_data.expense("faulty", "ana", 10, "EUR", ("ana", "bo"))
    client.document("expenses/bad").set({**bad, "currency": "EURO"})
    page.get_by_text("'EURO' is not an ISO 4217 code").wait_for()
    overview = new_page()
    overview.goto(url + "/")
    assert overview.locator("section.urgent").get_by_role("link", name="faulty").count() == 1
    overview.goto(url + "/oncall")
    assert "'EURO' is not an ISO 4217 code" in overview.locator("section.urgent").first.inner_text()
    page.get_by_role("link", name="correct it").click()
    text = page.get_by_label("Its fields").input_value()
    page.get_by_label("Its fields").fill(text.replace("EURO", "EUR"))
    page.get_by_role("button", name="Save").click()
    page.locator("svg.flow path.ribbon").first.wait_for()
    page.get_by_text("Faults: documents that are in no sum").wait_for(state="detached")


def test_a_duplicated_event_is_a_duplicate(new_page: NewPage, url: str) -> None:
    page = new_page()
    new_group(page, url, "twice")
    add_expense(page, "9")
    page.locator("svg.flow path.ribbon").first.wait_for()
    page.get_by_role("link", name="Events").last.click()
    event = page.locator("ol.events li").filter(has_text="added")
    event.get_by_text("APPLIED").wait_for()
    assert "bo owes ana 3.00 EUR more" in event.inner_text()
    event.get_by_role("button", name="Duplicate the event").first.click()
    page.locator("ol.events li").filter(has_text="added").get_by_text("DUPLICATE", exact=True).wait_for()
    page.locator("ol.events li").filter(has_text="added").get_by_role("button", name="With another id").click()
    page.locator("ol.events li").filter(has_text="added").nth(1).wait_for()
    page.locator("ol.events li").filter(has_text="added").first.get_by_text("DUPLICATE", exact=True).wait_for()
    page.goto(url + "/groups/twice/verify")
    page.get_by_text("Stored and recalculated agree").wait_for()


def test_an_event_is_held_dropped_and_a_rebuild_puts_it_right(new_page: NewPage, url: str, session: Session) -> None:
    page = new_page()
    new_group(page, url, "dropped", "ana, bo")
    session.drain()
    page.goto(url + "/events")
    page.get_by_role("button", name="Hold new events").click()
    page.get_by_text("New events are held").wait_for()
    page.goto(url + "/groups/dropped")
    add_expense(page, "8")
    page.goto(url + "/events?group=dropped")
    held = page.locator("ol.events li").filter(has_text="held")
    held.get_by_role("button", name="Drop").click()
    page.locator("ol.events li").get_by_text("dropped", exact=True).first.wait_for()
    page.get_by_role("button", name="Let all events go").click()
    page.goto(url + "/groups/dropped")
    page.get_by_text("Nobody owes anybody anything").wait_for()
    # The present shows drift only when an event is later than anybody promised; a rebuild needs no proof.
    page.get_by_role("button", name="Rebuild this balance").click()
    page.goto(url + "/groups/dropped")
    page.get_by_text("4.00 EUR").first.wait_for()
    page.goto(url + "/events")
    page.get_by_role("button", name="Run the nightly check").click()
    page.wait_for_url("**/events")
    page.goto(url + "/oncall")
    page.get_by_text("the groups", exact=False).first.wait_for()
    assert "reconciliation:" in page.locator("main").inner_text()


def test_under_chaos_and_a_killed_function_the_balance_is_still_right(new_page: NewPage, url: str, session: Session) -> None:
    page = new_page()
    new_group(page, url, "hostile", "ana, bo")
    page.goto(url + "/events")
    page.get_by_role("button", name="Chaos on").click()
    page.get_by_text("Chaos: one event in five").wait_for()
    page.goto(url + "/groups/hostile")
    add_expense(page, "10")
    page.goto(url + "/events")
    page.get_by_role("button", name="Kill its process").click()
    page.goto(url + "/groups/hostile")
    for _ in range(3):
        add_expense(page, "10")
        page.wait_for_url("**/groups/hostile?*")
    session.drain()
    page.goto(url + "/events")
    page.get_by_role("button", name="Chaos off").click()
    page.goto(url + "/groups/hostile/verify")
    page.get_by_text("Stored and recalculated agree").wait_for()
    assert "20.00 EUR" in page.locator("main").inner_text()


def test_an_event_that_posts_nothing_says_why(new_page: NewPage, url: str, session: Session, client: firestore.Client) -> None:
    page = new_page()
    new_group(page, url, "nothing", "ana, bo")
    session.drain()
    client.document("expenses/renamed").set(app_data.expense("nothing", "ana", 4, "EUR", ("ana", "bo")))
    client.document("expenses/renamed").update({"description": "tea"})
    session.drain()
    page.goto(url + "/events?group=nothing")
    page.get_by_text("nothing that counts has changed").wait_for()
    page.goto(url + "/events?group=nothing&outcome=APPLIED")
    page.locator("ol.events li").first.wait_for()
    assert page.get_by_text("nothing that counts has changed").count() == 0


@pytest.mark.usefixtures("filled")
def test_fifty_members_and_twenty_currencies_stay_readable(new_page: NewPage, url: str) -> None:
    for width in (1200, 390):
        page = new_page(viewport={"width": width, "height": 850})
        page.goto(url + PAGES["crowd"])
        assert page.locator("nav.tabs a").count() == len(app_data.CROWD_CURRENCIES)
        assert page.locator("table.bars tbody tr").count() == len(app_data.CROWD_MEMBERS)
        assert page.locator("svg.flow path.ribbon").count() <= 60
        # Nothing is wider than the page, and no name lies on another.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [box for it in page.locator("svg.flow text").all() if (box := it.bounding_box())]
        for column in (boxes[: len(boxes) // 2], boxes[len(boxes) // 2 :]):
            ordered = sorted(column, key=lambda box: box["y"])
            for above, below in pairwise(ordered):
                if abs(above["x"] - below["x"]) < 1:
                    assert above["y"] + above["height"] <= below["y"] + 3


@pytest.mark.usefixtures("filled")
def test_every_page_works_without_script(new_page: NewPage, url: str) -> None:
    page = new_page(java_script_enabled=False)
    for name, path in PAGES.items():
        response = page.goto(url + path)
        assert response.status == (404 if name == "missing" else 200), name
        assert page.locator("main h1").count() >= 1, name
    new_group(page, url, "no-script")
    add_expense(page, "9")
    end = time.monotonic() + 20
    while not page.locator("svg.flow path.ribbon").count() and time.monotonic() < end:
        time.sleep(0.3)
        page.reload()
    assert page.locator("svg.flow path.ribbon").count() == 2


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(new_page: NewPage, url: str, name: str, scheme: str) -> None:
    page = new_page(color_scheme=scheme, bypass_csp=True)
    page.goto(url + PAGES[name])
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    wrong = [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"][:2]
        if violation["impact"] in ("serious", "critical")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("filled")
def test_it_is_used_by_keyboard_alone(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.goto(url + "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Trip to Lisbon":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/groups/lisbon")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.getAttribute('aria-label') || '').includes('why?')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/why?*")
    assert page.get_by_role("heading", level=1).inner_text().startswith("Why ")


@pytest.mark.usefixtures("filled")
def test_names_of_users_cannot_become_markup(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.goto(url + "/groups/festival-%F0%9F%8E%AA-2026")
    assert page.locator("main b").count() == 0
    assert page.get_by_text("<b>bold</b>").count() > 0


def test_what_is_live_can_be_paused(new_page: NewPage, url: str) -> None:
    page = new_page()
    new_group(page, url, "paused", "ana, bo")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("paused", exact=True).last.wait_for()
    other = new_page()
    other.goto(url + "/groups/paused")
    add_expense(other, "9")
    other.locator("svg.flow path.ribbon").first.wait_for()
    assert page.locator("svg.flow path.ribbon").count() == 0
    page.get_by_role("button", name="Go on").click()
    page.locator("svg.flow path.ribbon").first.wait_for()


def test_the_first_page_with_ten_thousand_groups_is_told(
    new_page: NewPage, url: str, client: firestore.Client, session: Session
) -> None:
    """300 ms is wanted, and asked of a quiet machine; here it is measured, and no more than ten times that is let through."""
    session.set_chaos(lose=1)  # 10,000 balances are not what this is about
    try:
        for start in range(0, 10_000, 500):
            batch = client.batch()
            for number in range(start, start + 500):
                batch.set(client.document(f"groups/many-{number:05}"), {"name": f"Group {number}", "members": ["ana", "bo"]})
            batch.commit()
        session.drain()
    finally:
        session.set_chaos()
    page = new_page()
    page.goto(url + "/")
    times = []
    for _ in range(5):
        page.goto(url + "/?q=&by=id&after=many-00000")
        page.goto(url + "/", wait_until="load")
        times.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
    median_ms = sorted(times)[2]
    tell(f"the first page with 10,000 groups is usable after {median_ms:.0f} ms (median of 5)")
    assert median_ms < 3_000
    page.get_by_label("What to search for").fill("many-09999")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Group 9999").wait_for()
