"""One's own prompt on the compare page, in a real Chromium, answered by two endpoints."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from labeling.answering import Answerers, endpoints_of
from storage import judgments, prompts
from storage.database import Database
from storage.endpoints import Endpoint
from tests.app_process import wait_until
from tests.endpoint_server import EndpointServer, endpoint_server, streamed
from tests.labeling.judging_app import Nobody, add_versions, judging_app, new_queue, serving

pytestmark = pytest.mark.browser
WHOLE = "Shown once both answers are whole: an endpoint writes at a pace of its own, which would tell who it is."
INSIDE, OUTSIDE = "inside: near (small)", "outside: far (big)"


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    with endpoint_server() as made:
        made.replies = lambda words: streamed("**It", "** scatters.")
        yield made


@pytest.fixture
def page(browser: Browser, database: Database, endpoint: EndpointServer) -> Iterator[Page]:
    named = [Endpoint("near", endpoint.url, "small"), Endpoint("far", endpoint.url, "big", inside=False)]
    add_versions(database, "base")
    answerers = Answerers(Nobody(), endpoints_of(database, named))
    problems: list[str] = []
    with serving(judging_app(database, new_queue(database), answerers)) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "lead", "value": "yes", "url": address}])
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"/compare/?a={INSIDE}&b={OUTSIDE}")
        page.wait_for_selector(".ls.ready")
        yield page
        endpoint.go_on.set()
        context.close()
    assert problems == []


def begin(page: Page) -> None:
    page.get_by_role("button", name="Send them").click()
    expect(page.locator(".own textarea")).to_be_visible()


def ask(page: Page, text: str) -> None:
    page.locator(".own textarea").fill(text)
    page.get_by_role("button", name="Ask both").click()


def connections(endpoint: EndpointServer) -> int:
    """How many requests the endpoint is answering to somebody who still listens."""
    found = psutil.Process().net_connections("tcp")
    here = [one for one in found if one.laddr.port == endpoint.server.server_port]
    return sum(one.status == psutil.CONN_ESTABLISHED for one in here)


def test_nothing_leaves_before_somebody_has_read_that_it_will(page: Page, endpoint: EndpointServer) -> None:
    expect(page.locator(".state")).to_contain_text("Prompts would leave this machine")
    expect(page.locator(".state")).to_contain_text(endpoint.url)
    expect(page.locator(".own")).to_be_hidden()
    assert endpoint.bodies == []

    begin(page)

    expect(page.locator(".notice")).to_contain_text(f"{OUTSIDE}: what is asked here, by you too, leaves this machine.")


def test_consent_is_given_to_the_pair_that_was_read_and_to_no_other(page: Page, endpoint: EndpointServer) -> None:
    # given the sentence about one pair, and an answer about the next pair that takes its time
    expect(page.locator(".state")).to_contain_text("Prompts would leave this machine")
    slow: list[Route] = []
    page.route("**/api/compare/start", lambda route: route.continue_() if slow else slow.append(route))
    # when the pickers change, and change once more before it comes
    with page.expect_request("**/api/compare/start"):
        page.get_by_label("First version").select_option("base")
    expect(page.get_by_role("button", name="Send them")).to_be_hidden()
    page.get_by_label("Second version").select_option(INSIDE)
    expect(page.locator(".own")).to_be_visible()  # of this pair nothing leaves
    with page.expect_request_finished(lambda request: request == slow[0].request):
        slow[0].continue_()
    page.evaluate("fetch('/api/me').then(() => null)")  # when this is answered, the page has read what came before it
    # then what is said of the pair before is not shown
    expect(page.get_by_role("button", name="Send them")).to_be_hidden()
    expect(page.locator(".own")).to_be_visible()


def test_both_answers_are_written_blind_and_judged_by_key(
    page: Page, endpoint: EndpointServer, database: Database
) -> None:
    begin(page)
    endpoint.go_on.clear()
    ask(page, "Why is the <b>sky</b> blue?")
    expect(page.locator(".text.coming")).to_have_text([WHOLE, WHOLE])  # half of each is here, and is held back
    expect(page.locator(".prompt")).to_have_text("Why is the <b>sky</b> blue?")
    page.locator(".prompt").focus()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator(".ls > .sr[role=status]")).to_have_text("Not yet: both answers are still being written.")
    endpoint.go_on.set()
    expect(page.locator(".answer strong")).to_have_text(["It", "It"])
    expect(page.locator(".name")).to_have_text(["", ""])
    expect(page.locator(".said")).to_have_text("A better")  # what was chosen meanwhile stands
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Judged")
    assert sorted(page.locator(".name").all_inner_texts()) == [INSIDE, OUTSIDE]
    expect(page.locator(".results")).to_contain_text(
        "1 more vote on prompts that people asked themselves is kept apart."
    )
    (judged,) = judgments.list_all(database)
    assert prompts.get(database, judged.prompt_id).source == prompts.OWN_PROMPTS


def test_stop_takes_the_request_back_and_nothing_is_stored(
    page: Page, endpoint: EndpointServer, database: Database
) -> None:
    begin(page)
    endpoint.go_on.clear()
    ask(page, "Why?")
    expect(page.locator(".text.coming")).to_have_count(2)
    wait_until("both are asked", 30, lambda: connections(endpoint) == 2, pause=0.02)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".answers")).to_be_hidden()
    expect(page.get_by_role("button", name="Ask both")).to_be_visible()
    wait_until("both requests are taken back", 30, lambda: connections(endpoint) == 0, pause=0.02)
    endpoint.go_on.set()
    ask(page, "And why not?")  # the next one is not disturbed by it
    expect(page.locator(".answer strong")).to_have_count(2)
    assert [one.text for one in prompts.in_order(database)] == ["And why not?"]


def test_an_endpoint_that_refuses_is_said_below_what_was_typed(page: Page, endpoint: EndpointServer) -> None:
    begin(page)
    endpoint.replies = lambda words: (404, "no such model")
    ask(page, "Why?")
    expect(page.locator(".own .say")).to_contain_text("refused (404): no such model")
    expect(page.locator(".own textarea")).to_have_value("Why?")
