"""The console in a real browser: sign in by the printed link, ask, read the source, rate, correct."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from affinage.settings import Settings
from affinage.wiring import Affinage
from tests.support.process import Process

pytestmark = pytest.mark.browser
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)  # five seconds by default: too little on a machine that does other things
SHOTS = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def context(browser: Browser, home: Process) -> Iterator[BrowserContext]:
    """A browser in which alice has used the link."""
    opened = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(WAIT_MS)
    page = opened.new_page()
    page.goto(home.link)
    expect(page.locator("#user")).to_have_text("alice")
    page.close()
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, home: Process) -> Iterator[Page]:
    """The signed-in page; whatever the browser complains of fails the test."""
    opened = context.new_page()
    complaints: list[str] = []
    foreign: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: foreign.append(request.url) if not request.url.startswith(home.url) else None)
    opened.goto(home.url)
    expect(opened.locator("#workspace")).to_be_visible()
    yield opened
    opened.close()
    assert complaints == []
    assert foreign == []


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def ask(page: Page, question: str) -> None:
    page.locator("#question").fill(question)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#asked")).to_have_text(question)


def stored(home: Process, question: str) -> dict[str, object]:
    app = Affinage(Settings(home=home.home))
    with app.database.read() as connection:
        query = (
            "SELECT rating, reasons, comment, correction FROM feedback JOIN answer USING (answer_id) "
            "WHERE question = ? ORDER BY feedback.created_at DESC"
        )
        row = connection.exec_driver_sql(query, (question,)).mappings().first()
    app.close()
    return dict(row or {})


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(context: BrowserContext, page: Page):
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_an_answer_shows_its_quote_and_opens_the_document_there(page: Page):
    ask(page, "How long is a parking permit valid?")
    expect(page.locator("#known")).to_have_text("Checked against sources")
    quote = "A parking permit is valid for two years."
    expect(page.locator("#text")).to_contain_text(quote)
    expect(page.locator("#citations mark")).to_have_text(quote)
    shot(page, "answer")
    page.get_by_role("button", name="Open the document").click()
    expect(page.locator("#document-title")).to_have_text("Parking permits")
    expect(page.locator("#document-text mark")).to_have_text(quote)
    shot(page, "document")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#document")).to_be_hidden()


def test_nothing_can_be_asked_before_the_assistants_are_known(page: Page):
    held: list[Route] = []
    page.route("**/v1/models", lambda route: held.append(route))  # noqa: PLW0108  the library looks at the function
    page.reload()
    button = page.get_by_role("button", name="Ask")
    expect(button).to_be_disabled()
    page.locator("#question").fill("How long is a parking permit valid?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert len(held) == 1
    held[0].continue_()
    expect(button).to_be_enabled(timeout=WAIT_MS)
    expect(page.locator("#asked")).to_have_text("")


def test_a_rating_is_stored_and_acknowledged(page: Page, home: Process):
    question = "What does a parking permit cost a year for residents?"
    ask(page, question)
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#thanks")).to_have_text("Thank you, your feedback is stored.")
    assert stored(home, question)["rating"] == "up"


def test_a_wrong_answer_is_rated_down_with_reasons_and_corrected(page: Page, home: Process):
    question = "Where is a parking permit renewed before it ends?"
    ask(page, question)
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_label("Incomplete").check()
    page.get_by_label("Comment").fill("The counter is missing.")
    page.get_by_label("The right answer").fill("Renew it online before it ends, or at the counter of the town hall.")
    shot(page, "feedback")
    page.get_by_role("button", name="Send feedback").click()
    expect(page.locator("#thanks")).to_have_text("Thank you, your feedback is stored.")
    found = stored(home, question)
    assert found["rating"] == "down"
    assert json.loads(str(found["reasons"])) == ["incomplete"]
    assert found["comment"] == "The counter is missing."
    assert str(found["correction"]).startswith("Renew it online")


def test_what_one_may_not_read_is_not_known_and_no_word_tells_why(page: Page):
    ask(page, "How many days of leave do staff have?")
    expect(page.locator("#known")).to_have_text("No checked source")
    expect(page.locator("#text")).to_have_text("I don't know: I found no answer in the documents.")
    expect(page.locator("#citations li")).to_have_count(0)
    shot(page, "unknown")


def test_markup_in_a_question_stays_text(page: Page):
    ask(page, "<img src=x onerror=alert(1)> parking permit")
    assert page.locator("#asked img").count() == 0


def test_the_page_speaks_french_to_a_french_browser_and_answers_in_it(browser: Browser, context: BrowserContext, home: Process):
    french = browser.new_context(locale="fr-FR", storage_state=context.storage_state(), viewport={"width": 390, "height": 844})
    page = french.new_page()
    page.goto(home.url)
    expect(page.locator("#ask-title")).to_have_text("Interrogez vos documents")
    assert page.evaluate("document.documentElement.lang") == "fr"
    page.locator("#question").fill("Quand se fait l'inscription à la cantine ?")
    page.get_by_role("button", name="Demander").click()
    expect(page.locator("#citations mark")).to_contain_text("avant le 15 juillet")
    shot(page, "french-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    french.close()


def test_the_whole_way_works_by_keyboard(page: Page):
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("How long is a parking permit valid?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#known")).to_have_text("Checked against sources")
    page.locator(".marker").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#citation-1")).to_be_focused()


def test_a_used_link_signs_nobody_in_and_says_what_to_do(browser: Browser, home: Process):
    other = browser.new_context(locale="en-GB")
    page = other.new_page()
    page.goto(home.link)
    expect(page.locator("#sign-in-failed")).to_be_visible()
    expect(page.locator("#workspace")).to_be_hidden()
    shot(page, "signed-out")
    other.close()


def test_signing_out_leaves_nothing_behind(browser: Browser, home: Process, context: BrowserContext):
    page = context.new_page()
    page.goto(home.url)
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#signed-out")).to_be_visible()
    assert context.cookies() == []
    page.close()
