"""Texts that try to run a script or to fetch something, wherever a text of somebody else's is shown on the label page.

attacks.json holds them, one a line: each calls FIRE() if it succeeds, or asks evil.example. The browser is told to
ignore the content security policy, which would stop most of them anyway: what is tested is that there is nothing
to stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from storage import prompts, responses
from storage.database import Database
from storage.records import Message, Prompt, new_id
from storage.records import Response as Answer
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving

pytestmark = pytest.mark.browser
ATTACKS: list[str] = json.loads((Path(__file__).parent / "attacks.json").read_text())
AT_ONCE = 6  # answers of one item, and what is drawn together
LISTEN = """
    window.fired = [];
    window.FIRE = (...what) => fired.push(what.join());
    window.alert = window.confirm = window.prompt = window.FIRE;
"""
# Draws every item as the page itself does: what came from the server, through the page's own functions.
DRAW_ITEMS = """async () => {
    const { api, make, cards, AnswerCard, ranking } = window.Plumbline;
    const tab = sessionStorage.getItem("plumbline-tab"); // so that the items that the page holds come too
    const { items } = await api(`/api/label/next?project=attack&count=100&tab=${tab}`);
    const act = { focus() {}, noted() {}, rewritten() {} };
    for (const item of items) {
        const box = make("section", "attacked"), prompt = make("div");
        document.querySelector(".lmain").append(box);
        cards.prompt(prompt, item.prompt.messages);
        const entry = { item, answers: {}, notes: {}, rewrites: {}, scores: {} };
        for (const one of item.responses) entry.notes[one.id] = entry.rewrites[one.id] = one.text;
        const drawn = item.responses.map((one, index) => new AnswerCard(one, index, entry, ranking, [one.text], act));
        drawn.forEach((card) => card.paint(entry, ranking, false));
        box.append(prompt, ...drawn.map((card) => card.element));
    }
    return items.length;
}"""
# A project whose every name is an attack; guidelines in their sheet, opened.
DRAW_NAMES = """([html, names]) => {
    const { make, ranking, keys, LabelView } = window.Plumbline;
    for (const name of names) {
        const root = make("div", "pl ls preview attacked");
        document.querySelector(".lmain").append(root);
        const view = new LabelView(root, { toggle() {}, choose() {} });
        const project = { id: name, name, instruction: name, criteria: [name], reasons: [name], guidelines_html: html };
        view.showProject(project, [project, { id: "x", name }], ranking);
        view.paintRefused(name);
    }
    document.querySelector(".attacked dialog.drawer").showModal();
}"""
# What no text may bring; the page's own icons and fields are known by their classes.
FOUND = """() => {
    const all = [...document.querySelectorAll(".attacked *")];
    const tags = "img,image,script,iframe,style,object,embed,video,audio,link,meta,base,picture,template,marquee";
    const strange = `${tags},svg:not(.i),form:not(.stack),math[href],a[href]:not([href^=http])`;
    const attribute = /^on|^style$|^srcdoc$|^xlink|^popover/;
    const named = (one) => one.getAttributeNames().some((name) => attribute.test(name));
    return all.filter((one) => one.matches(strange) || named(one)).map((one) => one.outerHTML.slice(0, 200));
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("attacks") / "plumbline.duckdb")
    add_versions(database, "base")
    add_project(database, "attack", guidelines="\n\n".join(ATTACKS), instruction=ATTACKS[0])
    for first in range(0, len(ATTACKS), AT_ONCE):
        together = ATTACKS[first : first + AT_ONCE]
        _add_item(database, together, together)
    with serving(judging_app(database, new_queue(database))) as address:
        yield address
    database.close()


def _add_item(database: Database, said: list[str], answers: list[str]) -> None:
    """Every message of the prompt is one of them, and so is every answer."""
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    messages = tuple(Message(role, text) for role, text in zip(roles, said, strict=False))  # type: ignore[arg-type]  # roles are texts in the file
    asked = Prompt(new_id(), messages, False, "attack", "CC0")
    prompts.add(database, [asked])
    made = [Answer(new_id(), asked.id, text, "base", "base", project_id="attack") for text in answers]
    responses.add(database, made)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    elsewhere: list[str] = []
    context = browser.new_context(base_url=address, bypass_csp=True)
    page = context.new_page()
    page.add_init_script(LISTEN)
    page.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else elsewhere.append(request.url)
    )
    page.on(
        "framenavigated",
        lambda frame: None if frame.url.startswith((address, "about:")) else elsewhere.append(frame.url),
    )
    page.goto("/label/?project=attack")
    page.wait_for_selector(".ls.ready")
    yield page
    provoke(page)
    assert page.evaluate("window.fired") == []
    assert page.evaluate(FOUND) == []
    assert elsewhere == []
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=FIRE()>')")
    page.wait_for_function("window.fired.length === 1")  # the trap itself works
    context.close()


def provoke(page: Page) -> None:
    """The events that a person causes: the pointer over it, the focus on it, a click on what leads nowhere else."""
    page.evaluate("""() => {
        for (const one of document.querySelectorAll(".attacked *")) {
            for (const name of ["mouseover", "mouseenter", "focus", "toggle", "animationstart", "beforetoggle"])
                one.dispatchEvent(new Event(name, { bubbles: true }));
            if (one.tagName === "A" && !one.href.startsWith("http")) one.click();
        }
        return new Promise((done) => setTimeout(done, 300));
    }""")


def test_there_are_many_attacks() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS) >= 150


def test_prompts_answers_comments_rewrites_and_criteria_run_nothing(page: Page) -> None:
    assert page.evaluate(DRAW_ITEMS) == -(-len(ATTACKS) // AT_ONCE)
    assert page.locator(".attacked .answer").count() >= len(ATTACKS) - AT_ONCE  # equal answers are shown once


def test_guidelines_and_names_run_nothing(page: Page) -> None:
    html = page.evaluate("fetch('/api/label/next?project=attack&tab=x').then((one) => one.json())")
    page.evaluate(DRAW_NAMES, [html["project"]["guidelines_html"], ATTACKS])
    assert page.locator(".attacked .task").count() == len(ATTACKS)
