/* The dialog in which a lead settles an item: the answers, what people said, and the lead's own answer in the project's
   own terms. Loaded before quality.js. */
(() => {
"use strict";
const { make, fill, icon, button, say, cards, api, newKey } = window.Plumbline;

const KNOWN_ANSWERS = "Known answers"; // the field of the projects page that says how many of the items are gold

/** settling(done): `open(project, item, goldShare)` shows it, `done(answer)` is called once the lead's answer is stored. */
function settling(done) {
  const element = make("dialog", { class: "settle", "aria-labelledby": "settle-title" });
  return { element, open: (project, item, goldShare) => new Settling(element, { project, item, goldShare, done }) };
}

class Settling {
  constructor(element, { project, item, goldShare, done }) {
    Object.assign(this, { element, project, item, goldShare, done });
    this.entry = ENTRIES[item.type](item);
    this.isMeasure = item.type !== "edit"; // two people's rewritten answers are not compared, so none is held against a known one
    this.gold = make("input", { type: "checkbox", id: "settle-gold", checked: this.isMeasure && item.said.length === 0 });
    this.note = make("textarea", { id: "settle-note", rows: 2 });
    this.problem = make("div");
    this.send = button("check", "Settle", () => this.submit(), "btn go");
    this.draw();
    element.showModal();
    element.querySelector("[role=radio][tabindex='0'], [aria-pressed]").focus();
  }

  draw() {
    const { item } = this, prompt = make("div", "asked");
    cards.prompt(prompt, item.messages);
    fill(this.element, make("div", "row between", make("h2", { id: "settle-title" }, this.title()),
      button("x", "Close", () => this.element.close(), "btn sm ghost")),
      prompt, make("p", "mut", item.instruction), this.entry.common,
      make("div", "answers", item.responses.map((response, index) => this.answer(response, index))),
      item.said.length > 0 && said(item.said), this.form(), this.problem, make("div", "row", this.send));
  }

  answer(response, index) {
    const letter = cards.LETTERS[index];
    return make("article", { class: "card", "aria-label": `Answer ${letter}` },
      make("div", "row between", make("span", { class: "let", "aria-hidden": "true" }, letter), this.entry.controls[index]),
      cards.prose(response.html, response.text), this.entry.below?.[index]);
  }

  title() {
    return this.item.said.length ? "Settle this prompt" : this.isMeasure ? "Give a known answer" : "Write an ideal answer";
  }

  form() {
    return make("div", "stack", make("div", "f", make("label", { for: "settle-note" }, "Why, for whoever asks later (optional)"), this.note),
      this.isMeasure && make("div", "", make("label", { class: "row", for: "settle-gold" }, this.gold, make("b", "", "A known answer (gold)")),
        make("p", "help mut small", `${this.promise()} Only where nobody could honestly differ.`)));
  }

  /** What becomes of a known answer: nothing, while the project hands out none. */
  promise() {
    const then = "comes up among the items of people who have not seen it, and measures them";
    return this.goldShare > 0 ? `It then ${then}.` : `Once “${KNOWN_ANSWERS}” on the projects page is above 0 %, it ${then}.`;
  }

  async submit() {
    const verdict = this.entry.verdict();
    if (!verdict) return fill(this.problem, say("warn", this.entry.missing));
    this.send.disabled = true;
    try {
      const body = this.keyed({ project: this.project, prompt: this.item.prompt, verdict, gold: this.gold.checked, note: this.note.value });
      const answer = await api("/api/quality/settle", { body });
      this.element.close();
      this.done(answer);
    } catch (error) {
      this.send.disabled = false;
      fill(this.problem, say("bad", error.message));
    }
  }

  /** The server takes a key once: what is sent again unchanged keeps its key, and what was changed since is an answer of its own. */
  keyed(body) {
    const sent = JSON.stringify(body);
    if (sent !== this.sent) Object.assign(this, { sent, key: newKey() });
    return { key: this.key, ...body };
  }
}

const said = (people) => make("details", "", make("summary", "", icon("chevron-right"), `What ${people.length === 1 ? "one person" : `${people.length} people`} said`),
  make("ul", "said", people.map(({ name, said: words, reasons, note }) => make("li", "", make("b", "", name), `: ${words}`,
    reasons && make("span", "mut", ` · ${reasons}`), note && make("p", "mut", note)))));

// ---- an answer in the terms of each feedback type: controls on the cards, or one control for all ----

const letterOf = (index) => cards.LETTERS[index];

/** One group of buttons: `chosen()` is what was chosen, null before; `picked` is called when a person chooses. */
function chooser(name, options, picked = () => {}) {
  let value = null;
  const group = cards.radios(name, options.map(([one, label]) => ({ value: one, label, content: label })), (one) => { set(one); picked(one); }, "seg");
  const set = (one) => { value = one; group.paint(one); };
  set(null);
  return { element: group.element, chosen: () => value, set };
}

/** A chooser on each card, and one for all of them: what is said of all takes back what was said of single ones. */
function onEach(item, options, forAll, { all, missing, enough, verdict }) {
  const each = item.responses.map((_, index) => chooser(`Answer ${letterOf(index)}`, options, () => whole.set(null)));
  const whole = chooser("All of them", forAll, (value) => each.forEach((one) => one.set(all(value))));
  const given = () => item.responses.map(({ id }, index) => [id, each[index].chosen()]).filter(([, value]) => value !== null);
  return { controls: each.map((one) => one.element), common: make("div", "row", make("span", "small mut", "All of them"), whole.element), missing,
    verdict: () => (whole.chosen() === BOTH_BAD ? { both_bad: true } : given().length >= enough ? verdict(Object.fromEntries(given())) : null) };
}

const BOTH_BAD = "both_bad";

const ENTRIES = {
  ranking: (item) => onEach(item, item.responses.map((_, rank) => [rank + 1, String(rank + 1)]), [[1, "Tie"], [BOTH_BAD, "All bad"]], {
    all: (value) => (value === BOTH_BAD ? null : value), enough: 2, verdict: (ranks) => ({ ranks }),
    missing: "Rank at least two answers (the same number is a tie), or say that all tie or are bad.",
  }),
  thumbs: (item) => onEach(item, [["up", "Good"], ["down", "Not good"]], [["up", "All good"], ["down", "All bad"]], {
    all: (value) => value, enough: 1, verdict: (thumbs) => ({ thumbs }), missing: "Say of at least one answer whether it is good.",
  }),
  pairwise() {
    const steps = [[-3, "A much better"], [-2, "A better"], [-1, "A slightly"], [0, "Tie"], [1, "B slightly"], [2, "B better"], [3, "B much better"], [BOTH_BAD, "Both bad"]];
    const one = chooser("Which is better", steps);
    const verdict = () => (one.chosen() === null ? null : one.chosen() === BOTH_BAD ? { both_bad: true } : { choice: one.chosen() });
    return { controls: [null, null], common: one.element, verdict, missing: "Choose which answer is better, a tie, or that both are bad." };
  },
  edit(item) {
    const each = item.responses.map(rewriting);
    const verdict = () => {
      const written = item.responses.map(({ id }, index) => [id, each[index].written()]).filter(([, text]) => text);
      return written.length ? { rewrites: Object.fromEntries(written) } : null;
    };
    return { controls: each.map((one) => one.open), below: each.map((one) => one.area), common: null, verdict,
      missing: "Rewrite at least one answer into what it should have been; one that is opened and left as it is counts as ideal." };
  },
};

/** A field that opens with the answer in it; nothing is written while it is closed. */
function rewriting(response, index) {
  const area = make("textarea", { "aria-label": `Answer ${letterOf(index)} as it should have been`, rows: 5, hidden: true, value: response.text });
  const open = button("pencil", "Rewrite", () => {
    area.hidden = !area.hidden;
    open.setAttribute("aria-pressed", String(!area.hidden));
    if (!area.hidden) area.focus();
  }, "btn sm");
  open.setAttribute("aria-label", `Rewrite answer ${letterOf(index)}`);
  open.setAttribute("aria-pressed", "false");
  return { area, open, written: () => (area.hidden ? "" : area.value.trim()) };
}

Object.assign(window.Plumbline, { settling, KNOWN_ANSWERS });
})();
