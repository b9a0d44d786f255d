"""The label page in a real Chromium: by keyboard, by mouse, offline, and with answers that attack it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, Route, expect

from labeling.assignment import Queue
from storage import assignments, judgments, projects
from storage.database import Database
from storage.records import Demonstration, Judgment, Ranking, Rating, Score
from tests.app_process import wait_until
from tests.labeling.judging_app import add_comparison, add_project, add_versions, judging_app, new_queue, serving
from tests.loop import ITEM

pytestmark = pytest.mark.browser
FOUR = [["first\nline", "second", "third", "fourth"]] * 30
ATTACK = """text before
<img src=x onerror="(window.fired=window.fired||[]).push('img')">
<script>(window.fired=window.fired||[]).push('script')</script>
<a id="click-me" href="javascript:(window.fired=window.fired||[]).push('html link')">html link</a>
[markdown link](javascript:window.fired=['markdown'])
<svg onload="(window.fired=window.fired||[]).push('svg')"></svg>
<iframe srcdoc="<script>(parent.fired=parent.fired||[]).push('srcdoc')</script>"></iframe>
<math><mtext><table><style><img src=x onerror="window.fired=['mutation']"></style></table></mtext></math>
<form action="https://evil.example/x"><button>f</button></form>
<img src="https://evil.example/track.png">
![image](https://evil.example/md.png)
<style>body{background:url(https://evil.example/css.png)}</style>
${window.fired=['template']} {{window.fired}}
text after"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database.open(tmp_path_factory.mktemp("label") / "plumbline.duckdb")
    add_versions(database, "base", "v1")
    for name in (
        "keys",
        "mouse",
        "back",
        "offline",
        "reload",
        "blind",
        "narrow",
        "refused",
        "notes",
        "guided",
        "draft",
    ):
        add_project(database, name, "ranking", FOUR)
    add_project(database, "thumbs", "thumbs", FOUR)
    add_project(database, "pairs", "pairwise", [["first", "second"]] * 30)
    add_project(database, "edit", "edit", [["A draft."]] * 30)
    beside = {"criteria": ("helpful", "honest"), "reasons": ("correct", "shorter")}
    add_project(database, "beside", "ranking", FOUR, **beside)
    add_project(database, "attack", "ranking", [[ATTACK, f"{ATTACK} again"]])
    add_project(database, "prefetched", "ranking", [["one", "two"]] * 6)
    add_project(database, "last", "ranking", [["one", "two"]])
    add_project(database, "left", "ranking", [["one", "two"]])
    add_project(database, "empty", "ranking", [])
    add_comparison(database, 8)
    yield database
    database.close()


@pytest.fixture(scope="module")
def queue(database: Database) -> Queue:
    return new_queue(database)


@pytest.fixture(scope="module")
def address(database: Database, queue: Queue) -> Iterator[str]:
    with serving(judging_app(database, queue)) as address:
        yield address


@pytest.fixture
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """Fails the test for an error on the page, and for a request to anywhere else."""
    problems: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda request: problems.append(request.url) if not _ours(request.url, address) else None)
    yield page
    assert problems == []


def _ours(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def opened(page: Page, project: str) -> Page:
    page.goto(f"/label/?project={project}")
    page.wait_for_selector(".ls.ready", timeout=60_000)
    page.evaluate("document.fonts.ready.then(() => null)")  # nothing moves any more
    return page


def item(page: Page) -> str:
    return page.locator(".ls").get_attribute("data-item") or ""


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def submitted(page: Page, *keys: str) -> str:
    """Presses the keys, then Enter; returns the item that was judged, once the next one is there."""
    before = item(page)
    press(page, *keys, "Enter")
    changed(page, before)
    return before


def changed(page: Page, before: str) -> None:
    """Waits until another item is on the screen; before that, keys are ignored."""
    page.wait_for_function("before => document.querySelector('.ls').dataset.item !== before", arg=before)


def saved(page: Page) -> None:
    expect(page.locator(".save")).to_have_attribute("data-s", "saved")


def about(database: Database, assignment: str) -> list[Judgment]:
    return [one for one in judgments.list_all(database) if one.assignment_id == assignment]


def judge_until(page: Page, wanted: str) -> None:
    """Judges what comes before this item."""
    for _ in range(10):
        page.wait_for_selector(ITEM)
        if item(page) == wanted:
            return
        submitted(page, "1", "2")
    raise AssertionError(f"{wanted} did not come again")


def test_four_digits_and_enter_rank_four_answers(page: Page, database: Database) -> None:
    opened(page, "keys")
    judged = submitted(page, "2", "1", "1", "4")
    saved(page)
    (judgment,) = about(database, judged)
    a, b, c, d = judgment.displayed_order
    assert judgment.verdicts == (Ranking(((b, c), (a,), (d,))),)
    assert judgment.displayed_order == assignments.get(database, judged).displayed_order


def test_a_letter_focuses_its_card_zero_clears_and_submit_names_what_is_left_out(
    page: Page, database: Database
) -> None:
    opened(page, "keys")
    expect(page.locator(".submit")).to_have_text("Rank at least two↵")
    press(page, "c", "1", "a", "2", "c", "0", "b", "1")
    expect(page.locator(".submit")).to_have_text("Submit, 2 unranked↵")
    judged = submitted(page)
    saved(page)
    (judgment,) = about(database, judged)
    a, b, *_ = judgment.displayed_order
    assert judgment.verdicts == (Ranking(((b,), (a,))),)


def test_submitting_too_little_stays_and_says_what_is_missing(page: Page) -> None:
    opened(page, "keys")
    here = item(page)
    press(page, "3", "Enter", "Backspace")
    expect(page.locator(".ls > .sr[role=status]")).to_have_text("Not yet: rank one more.")
    assert item(page) == here


def test_keys_in_a_note_are_text_and_ctrl_enter_submits(page: Page, database: Database) -> None:
    opened(page, "keys")
    press(page, "1", "2")
    press(page, "n")
    page.keyboard.type("12 sgz")
    press(page, "Enter")
    page.keyboard.type("abc")
    here = item(page)
    press(page, "Control+Enter")
    changed(page, here)
    saved(page)
    (judgment,) = about(database, here)
    assert judgment.note == "C: 12 sgz\nabc"


def test_keys_with_ctrl_or_altgr_mean_nothing_and_single_keys_can_be_switched_off(page: Page) -> None:
    opened(page, "keys")
    press(page, "Control+1", "Alt+2")
    page.evaluate(
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: '3', modifierAltGraph: true, bubbles: true}))"
    )
    expect(page.locator(".chip")).to_have_count(4)
    expect(page.locator(".pool .chip")).to_have_count(4)
    press(page, "?")
    page.get_by_label("Single keys are on").uncheck()
    press(page, "Escape", "1")
    expect(page.locator(".pool .chip")).to_have_count(4)


def test_up_and_down_are_thumbs(page: Page, database: Database) -> None:
    opened(page, "thumbs")
    press(page, "ArrowUp", "ArrowDown", "d", "ArrowUp", "d", "0")
    expect(page.locator(".tray")).to_have_text("1 good, 1 bad, 2 to rate")
    judged = submitted(page)
    saved(page)
    (judgment,) = about(database, judged)
    a, b, *_ = judgment.displayed_order
    assert judgment.verdicts == (Rating(a, True), Rating(b, False))


def test_pairwise_takes_digits_arrows_and_both_bad(page: Page, database: Database) -> None:
    opened(page, "pairs")
    expect(page.locator(".submit")).to_have_text("Choose 1 to 7↵")
    much, one_step, bad = submitted(page, "1"), submitted(page, "ArrowRight"), submitted(page, "6", "0")
    saved(page)
    (first,), (second,), (third,) = (about(database, one) for one in (much, one_step, bad))
    a, b = first.displayed_order
    assert first.verdicts == (Ranking(((a,), (b,)), strength=3),)
    a, b = second.displayed_order
    assert second.verdicts == (Ranking(((b,), (a,)), strength=1),)
    assert third.verdicts == (Ranking((third.displayed_order,)),)
    assert "both_bad" in third.flags


def test_a_pairwise_choice_is_reopened_as_it_was_both_bad_too(page: Page, database: Database) -> None:
    opened(page, "pairs")
    judged = submitted(page, "0")
    saved(page)
    page.reload()
    page.wait_for_selector(".ls.ready")
    expect(page.get_by_role("button", name="Back")).to_be_enabled()
    waiting = item(page)
    press(page, "z")
    changed(page, waiting)
    assert item(page) == judged
    expect(page.get_by_role("button", name="Both bad")).to_have_attribute("aria-pressed", "true")
    submitted(page, "4")
    saved(page)
    _, new = about(database, judged)
    assert new.verdicts == (Ranking((new.displayed_order,)),)
    assert "both_bad" not in new.flags


def test_r_rewrites_into_the_ideal_answer_and_ctrl_enter_submits_it(page: Page, database: Database) -> None:
    opened(page, "edit")
    expect(page.locator(".submit")).to_have_text("Rewrite an answer↵")
    here = item(page)
    press(page, "r")
    expect(page.locator(".submit")).to_have_text("Submit as it is↵")
    page.keyboard.type("Not ")
    expect(page.locator(".submit")).to_have_text("Submit↵")
    press(page, "Control+Enter")
    changed(page, here)
    saved(page)
    (judgment,) = about(database, here)
    (original,) = judgment.displayed_order
    assert judgment.verdicts == (Demonstration("Not A draft.", original, preferred=True),)


def test_an_answer_left_as_it_is_is_ideal_and_zero_takes_a_rewrite_back(page: Page, database: Database) -> None:
    opened(page, "edit")
    press(page, "r", "x", "Escape", "0")
    expect(page.locator(".submit")).to_have_text("Rewrite an answer↵")
    judged = submitted(page, "r", "Escape")
    saved(page)
    (judgment,) = about(database, judged)
    assert judgment.verdicts == (Demonstration("A draft.", judgment.displayed_order[0]),)


def test_scores_reasons_flags_and_an_ideal_answer_go_with_a_ranking_by_keyboard_alone(
    page: Page, database: Database
) -> None:
    opened(page, "beside")
    press(page, "1", "2", "3", "4", "a", "v", "ArrowRight", "v", "v", "ArrowRight", "ArrowRight")
    press(page, "h", "i", "i", "p", "c", "r", "!", "Escape", "d", "r", "Escape")
    judged = submitted(page)
    saved(page)
    (judgment,) = about(database, judged)
    a, b, c, d = judgment.displayed_order
    ranking, ideal = judgment.verdicts
    assert ranking == Ranking(((a,), (b,), (c,), (d,)))
    assert isinstance(ideal, Demonstration) and (ideal.improves, ideal.preferred, ideal.text[0]) == (c, True, "!")
    assert judgment.scores == (Score(a, "helpful", 2), Score(b, "helpful", 3))
    assert judgment.reasons == ("correct",)
    assert "personal_data" in judgment.flags


def test_what_was_said_beside_comes_back_when_it_is_reopened_and_after_a_reload(page: Page) -> None:
    opened(page, "beside")
    judged = submitted(page, "1", "2", "h", "u", "v", "ArrowRight", "a", "r", "!", "Escape")
    saved(page)
    press(page, "1", "i", "b", "r", "?", "Escape")  # a draft
    page.reload()
    page.wait_for_selector(".ls.ready")
    expect(page.get_by_role("button", name="shorter")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("The ideal answer, from B")).to_have_value(re.compile(r"^\?"))
    expect(page.get_by_role("button", name="Back", exact=True)).to_be_enabled()
    waiting = item(page)
    press(page, "z")
    changed(page, waiting)
    assert item(page) == judged
    for name in ("correct", "Unsafe"):
        expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("The ideal answer, from A")).to_have_value(re.compile("^!"))
    expect(page.locator(".submit")).to_have_text("Leave as it is↵")


def test_taking_back_what_was_not_rewritten_says_nothing(page: Page) -> None:
    opened(page, "edit")
    live = page.locator(".ls > .sr[role=status]")
    expect(live).to_have_text("Next prompt. 1 answer.")
    press(page, "0")
    expect(live).to_have_text("Next prompt. 1 answer.")
    press(page, "r", "Escape", "0")
    expect(live).to_have_text("Answer A is as it was.")


def test_the_mouse_ranks_drags_and_skips(page: Page, database: Database) -> None:
    opened(page, "mouse")
    page.get_by_role("radiogroup", name="Rank for answer A").get_by_role("radio", name="Rank 2").click()
    page.locator(".answer .let").nth(1).drag_to(page.locator('[data-slot="1"]'))
    expect(page.locator('[data-slot="1"] .chip')).to_have_text("B")
    page.locator('[data-slot="1"] .chip').drag_to(page.locator('[data-slot="3"]'))
    expect(page.locator('[data-slot="3"] .chip')).to_have_text("B")
    here = item(page)
    page.get_by_role("button", name="Submit").click()
    changed(page, here)
    skipped = item(page)
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("[name=skip-reason]:checked")).to_have_count(0)
    press(page, "2", "Enter")
    changed(page, skipped)
    saved(page)
    assert len(about(database, here)) == 1
    stored = assignments.get(database, skipped)
    assert (stored.state, stored.skip_reason) == ("skipped", "The prompt makes no sense")


def test_a_judgment_can_be_reopened_and_the_change_supersedes_it(page: Page, database: Database) -> None:
    opened(page, "back")
    judged = submitted(page, "1", "2", "3", "4")
    waiting = item(page)
    press(page, "z")
    changed(page, waiting)
    expect(page.locator(".reopened")).to_be_visible()
    assert item(page) == judged
    press(page, "a", "4", "d", "1")
    assert submitted(page) == judged
    assert item(page) == waiting  # back to where one was
    saved(page)
    old, new = about(database, judged)
    assert new.supersedes == old.id
    a, b, c, d = new.displayed_order
    assert new.verdicts == (Ranking(((d,), (b,), (c,), (a,))),)
    assert judgments.recent(database, "back", "maria") == [new]


def test_judgments_from_before_a_reload_can_be_reopened(page: Page, database: Database) -> None:
    opened(page, "reload")
    judged = submitted(page, "1", "1")
    saved(page)
    press(page, "3")  # a draft
    page.reload()
    page.wait_for_selector(".ls.ready")
    expect(page.locator('[data-slot="3"] .chip')).to_have_text("A")
    expect(page.get_by_role("button", name="Back")).to_be_enabled()
    here = item(page)
    press(page, "z")
    changed(page, here)
    assert item(page) == judged
    expect(page.locator('[data-slot="1"] .chip')).to_have_count(2)


def test_offline_judgments_are_kept_over_a_reload_and_counted_once(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "offline")
    context.route("**/api/label/judge", lambda route: route.abort())
    judged = [submitted(page, "1", "2"), submitted(page, "2", "1")]
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")
    expect(page.locator(".save")).to_have_text("Kept here, offline: 2 judgments to send")
    page.reload()
    page.wait_for_selector(".ls.ready")
    assert item(page) not in judged
    assert about(database, judged[0]) == []
    context.unroute("**/api/label/judge")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    saved(page)
    assert [len(about(database, one)) for one in judged] == [1, 1]


def test_two_items_lie_ready_where_the_server_does_not_answer_any_more(page: Page, context: BrowserContext) -> None:
    opened(page, "prefetched")
    context.route("**/api/label/**", lambda route: route.abort())
    judged = [submitted(page, "1", "2") for _ in range(2)]
    assert item(page) and item(page) not in judged
    expect(page.locator(".save")).to_have_text("Kept here, offline: 2 judgments to send")


HALF_A_MINUTE_OF_READING = """() => {
    const name = Object.keys(localStorage).find((one) => one.startsWith('plumbline-draft-'));
    const draft = JSON.parse(localStorage[name]);
    localStorage[name] = JSON.stringify({ ...draft, seconds: draft.seconds + 30 });
}"""


def test_a_draft_outlives_its_tab(page: Page, context: BrowserContext, database: Database) -> None:
    opened(page, "draft")
    here = item(page)
    press(page, "a", "3", "n")
    page.keyboard.type("so far")
    tab = page.evaluate("sessionStorage['plumbline-tab']")
    page.evaluate(HALF_A_MINUTE_OF_READING)
    page.close()
    again = context.new_page()
    again.goto("/ui/plumbline.css")
    again.wait_for_function("navigator.locks.query().then(({ held }) => held.length === 0)")  # the tab's name is free
    again.add_init_script(f"sessionStorage['plumbline-tab'] = '{tab}'")  # as a browser reopens a closed tab
    opened(again, "draft")
    assert item(again) == here
    expect(again.locator('[data-slot="3"] .chip')).to_have_text("A")
    expect(again.locator(".note").nth(1)).to_have_value("so far")
    press(again, "b", "1", "Enter")
    changed(again, here)
    saved(again)
    assert 30 <= (about(database, here)[0].focused_seconds or 0) < 60  # what was read before counts too


def test_an_answer_lost_on_the_way_back_does_not_count_twice(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "offline")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    context.route("**/api/label/judge", lose)
    judged = submitted(page, "1", "2")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")
    assert len(about(database, judged)) == 1  # the server has it, and the page does not know
    context.unroute("**/api/label/judge")
    saved(page)
    assert len(about(database, judged)) == 1


def test_a_refused_judgment_comes_again_and_supersedes_nothing(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "refused")
    refusal = {"status": 400, "json": {"error": "Not like this."}}
    context.route("**/api/label/judge", lambda route: route.fulfill(**refusal), times=1)
    refused = submitted(page, "2", "1", "n", "x", "Escape")
    expect(page.locator(".say")).to_contain_text("Not like this.")
    expect(page.get_by_role("button", name="Back")).to_be_disabled()
    judge_until(page, refused)
    expect(page.locator('[data-slot="1"] .chip')).to_have_text("B")  # what was said is still there
    submitted(page)
    saved(page)
    (judgment,) = about(database, refused)
    assert (judgment.supersedes, judgment.note) == (None, "C: x")


def test_a_refused_change_leaves_the_judgment_that_it_would_have_replaced(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "refused")
    judged = submitted(page, "1", "2")
    saved(page)
    context.route("**/api/label/judge", lambda route: route.fulfill(status=400, json={"error": "No."}), times=1)
    for rank in ("3", "4"):
        waiting = item(page)
        press(page, "z")
        changed(page, waiting)
        assert submitted(page, "a", rank) == judged
        saved(page)
    first, second = about(database, judged)
    assert second.supersedes == first.id


def test_a_judgment_too_large_to_outlive_its_page_is_sent_all_the_same(page: Page, database: Database) -> None:
    opened(page, "notes")
    press(page, "1", "2")
    expect(page.locator(".note").first).to_have_attribute("maxlength", "2000")
    for index, letter in enumerate("abc"):  # 9,000 letters of three bytes, which nobody could type
        press(page, letter, "n")
        page.locator(".note").nth(index).evaluate("note => { note.maxLength = 9001; note.value = '語'.repeat(9000); }")
        press(page, "End", "!", "Escape")
    judged = submitted(page)
    saved(page)
    (judgment,) = about(database, judged)
    assert len((judgment.note or "").encode()) > 64 * 1024


def test_answers_cannot_run_scripts_or_fetch_anything(page: Page) -> None:
    opened(page, "attack")
    expect(page.locator(".answer").first).to_contain_text("text after")
    for link in page.locator(".answer a").all():
        assert (link.get_attribute("href") or "https://").startswith("https://")
    page.wait_for_timeout(300)
    assert page.evaluate("window.fired") is None
    assert page.locator(".answer :is(img, script, iframe, svg:not(.i), form, style)").count() == 0


def test_nothing_that_anchors_is_on_the_page(page: Page) -> None:
    answers: list[Response] = []
    page.on("response", lambda response: answers.append(response) if "/api/label" in response.url else None)
    with page.expect_response("**/api/label/next?*"):
        opened(page, "blind")
    bodies = [answer.text() for answer in answers]
    for word in ("base", "version_id", "temperature", "author", "seed"):
        assert not any(f'"{word}"' in body for body in bodies)
    assert "base" not in page.locator(".ls").inner_text()


def test_changed_guidelines_are_said_and_the_judgment_names_those_that_were_read(
    page: Page, database: Database, queue: Queue
) -> None:
    opened(page, "guided")
    expect(page.locator(".say")).to_have_count(0)
    projects.save(database, replace(projects.get(database, "guided"), guidelines="Short **first**."))
    queue.forget("guided")
    page.reload()
    page.wait_for_selector(".ls.ready")
    page.get_by_role("button", name="Read them").click()
    expect(page.get_by_role("dialog", name="Guidelines")).to_contain_text("Short first.")
    press(page, "Escape")
    judged = submitted(page, "1", "2")
    saved(page)
    assert about(database, judged)[0].guideline_version == 2
    page.reload()
    page.wait_for_selector(".ls.ready")
    expect(page.locator(".say")).to_have_count(0)


def test_a_prompt_can_be_skipped_without_a_reason(page: Page, database: Database) -> None:
    opened(page, "mouse")
    skipped = item(page)
    press(page, "s", "Enter")
    changed(page, skipped)
    saved(page)
    stored = assignments.get(database, skipped)
    assert (stored.state, stored.skip_reason) == ("skipped", "")


def test_the_sheet_of_keys_names_the_letters_and_digits_of_the_item(page: Page) -> None:
    opened(page, "keys")
    press(page, "?")
    expect(page.locator("dialog[open] dt").nth(0)).to_have_text("A … D")
    expect(page.locator("dialog[open] dt").nth(1)).to_have_text("1 … 4")


def test_an_empty_project_says_so(page: Page) -> None:
    opened(page, "empty")
    expect(page.locator(".state")).to_contain_text("There are no prompts yet.")
    expect(page.locator(".submit")).to_be_hidden()


def test_after_the_last_prompt_ones_own_judgment_is_not_said_to_be_open_elsewhere(
    page: Page, context: BrowserContext
) -> None:
    opened(page, "last")
    context.route("**/api/label/judge", lambda route: route.abort())
    submitted(page, "1", "2")
    expect(page.locator(".state h2")).to_have_text("The next prompt is on its way.")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")
    expect(page.locator(".state h2")).to_have_text("The next prompt is on its way.")

    context.unroute("**/api/label/judge")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator(".state h2")).to_have_text("Every prompt here is judged. Thank you.")
    expect(page.locator(".ls > .sr[role=status]")).to_have_text(
        "Every prompt here is judged. Thank you. You have judged 1 prompt here."
    )


SUBMIT_AND_LEAVE = """() => {
    document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
    location.href = 'about:blank';
}"""


def test_what_is_submitted_just_before_the_page_is_left_is_sent(context: BrowserContext, database: Database) -> None:
    page = opened(context.new_page(), "left")
    here = item(page)
    press(page, "1", "2")
    page.evaluate(SUBMIT_AND_LEAVE)
    page.wait_for_url("about:blank")

    wait_until("it is stored", 60, lambda: about(database, here))  # the request outlives its page
    assert len(about(database, here)) == 1


def test_on_a_phone_it_is_a_stack_without_sideways_scrolling(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 390, "height": 844}, has_touch=True)
    page = opened(context.new_page(), "narrow")
    boxes = [card.bounding_box() for card in page.locator(".answer").all()]
    assert len({box["x"] for box in boxes if box}) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    last, bar = page.locator(".answer").last.bounding_box(), page.locator(".lbar").bounding_box()
    assert (
        last and bar and last["y"] + last["height"] + 26 <= bar["y"]
    )  # 26: what is kept offline is said above the bar
    page.get_by_role("radiogroup", name="Rank for answer A").get_by_role("radio", name="Rank 1").tap()
    expect(page.locator('[data-slot="1"] .chip')).to_have_text("A")
    context.close()
