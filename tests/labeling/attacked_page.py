"""A label page on which every text of somebody else's tries to run a script or to fetch something.

attacks.json holds the texts, one a line: each calls FIRE() if it succeeds, or asks evil.example, which is never really
asked. The browser is told to ignore the content security policy, which would stop most of them anyway: what is looked
at is whether there is anything to stop. After each look one attack is let through on purpose, which has to be noticed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from storage import projects, prompts, responses
from storage.database import Database
from storage.records import Message
from tests.makers import project, prompt, response

ATTACKS: list[str] = json.loads((Path(__file__).parent / "attacks.json").read_text())
ROLES: tuple[Literal["system", "user", "assistant"], ...] = ("system", *2 * ("user", "assistant"), "user")
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
    return Math.min(...[".turn", ".answer"].map((kind) => document.querySelectorAll(`.attacked ${kind}`).length));
}"""
# Projects whose every name is an attack; the guidelines in the sheet of the first, opened.
DRAW_NAMES = """async (names) => {
    const { api, make, ranking, LabelView } = window.Plumbline;
    let { guidelines_html } = (await api("/api/label/next?project=attack&tab=x")).project;
    for (const name of names) {
        const root = make("div", "pl ls preview attacked");
        document.querySelector(".lmain").append(root);
        const view = new LabelView(root, { toggle() {}, choose() {} });
        const project = { id: name, name, instruction: name, criteria: [name], reasons: [name], guidelines_html };
        view.showProject(project, [project, { id: "x", name }], ranking);
        view.paintRefused(name);
        guidelines_html = ""; // drawn once, as there is one text of them
    }
    document.querySelector(".attacked dialog.drawer").showModal();
    return document.querySelectorAll(".attacked .task").length;
}"""
# The events that a person causes: the pointer over it, the focus on it, a click on what leads nowhere else.
PROVOKE = """() => {
    for (const one of document.querySelectorAll(".attacked *")) {
        for (const name of ["mouseover", "mouseenter", "focus", "toggle", "animationstart", "beforetoggle"])
            one.dispatchEvent(new Event(name, { bubbles: true }));
        if (one.tagName === "A" && !one.href.startsWith("http")) one.click();
    }
    return new Promise((done) => setTimeout(done, 300));
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
LET_THROUGH = """document.querySelector(".attacked").insertAdjacentHTML(
    "beforeend", "<img src=https://evil.example/x onerror=FIRE()>")"""


@dataclass(frozen=True)
class Seen:
    """How many attacks were drawn, and what came of them."""

    drawn: int
    ran: list[str]
    strange: list[str]  # elements and attributes that no text may bring
    elsewhere: list[str]  # addresses that were asked, or gone to


HARMLESS = Seen(drawn=len(ATTACKS), ran=[], strange=[], elsewhere=[])


def fill(database: Database) -> None:
    """Guidelines, instruction, prompts and answers of one project, all of them attacks."""
    texts = {"instruction": ATTACKS[0], "guidelines": "\n\n".join(ATTACKS)}
    projects.save(database, project(id="attack", responses_per_prompt=AT_ONCE, **texts))
    for first in range(0, len(ATTACKS), AT_ONCE):
        _add_item(database, ATTACKS[first : first + AT_ONCE])


def _add_item(database: Database, texts: list[str]) -> None:
    """Every message of the prompt is one of them, and so is every answer."""
    messages = tuple(Message(role, text) for role, text in zip(ROLES, texts, strict=False))
    asked = prompt(messages=messages, held_out=False)
    prompts.add(database, [asked])
    responses.add(database, [response(asked.id, text, project_id="attack") for text in texts])


def attack(browser: Browser, address: str, draw: str) -> Seen:
    """Draws the attacks on a page of their own, does there what a person does, and sees what comes of it."""
    with browser.new_context(base_url=address, bypass_csp=True) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        elsewhere = _watch(page, address)
        page.goto("/label/?project=attack")
        page.wait_for_selector(".ls.ready")
        drawn = page.evaluate(draw, ATTACKS)
        page.evaluate(PROVOKE)
        seen = _look(page, drawn, elsewhere)
        page.evaluate(LET_THROUGH)
        page.wait_for_function("before => window.fired.length > before", arg=len(seen.ran))
        _must_differ_by_one(seen, _look(page, drawn, elsewhere))
    return seen


def _watch(page: Page, address: str) -> list[str]:
    """Where the page asks or goes beyond its own address: a list that grows."""
    elsewhere: list[str] = []

    def note(url: str, harmless: str) -> None:
        if not url.startswith((address, harmless)):
            elsewhere.append(url)

    page.add_init_script(LISTEN)
    page.on("request", lambda request: note(request.url, "data:"))
    page.on("framenavigated", lambda frame: note(frame.url, "about:"))
    page.route(re.compile(r"evil\.example"), lambda route: route.abort())
    return elsewhere


def _look(page: Page, drawn: int, elsewhere: list[str]) -> Seen:
    return Seen(drawn, page.evaluate("window.fired"), page.evaluate(FOUND), [*elsewhere])


def _must_differ_by_one(before: Seen, after: Seen) -> None:
    for what in ("ran", "strange", "elsewhere"):
        more = len(getattr(after, what)) - len(getattr(before, what))
        assert more == 1, f"One attack was let through on purpose, and {more} were noticed as {what}."
