/* The dialog in which a lead settles an item: the answers, what people said, and the lead's own answer in the project's
   own terms. Loaded before quality.js. */
(() => {
"use strict";
const { make, fill, icon, button, say, cards, api, newKey } = window.Plumbline;

/** settling(done): `open(project, item)` shows it, `done(answer)` is called once the lead's answer is stored. */
function settling(done) {
  const element = make("dialog", { class: "settle", "aria-labelledby": "settle-title" });
  return { element, open: (project, item) => new Settling(element, project, item, done) };
}

class Settling {
  constructor(element, project, item, done) {
    Object.assign(this, { element, project, item, done, key: newKey() });
    this.entry = ENTRIES[item.type](item);
    this.gold = make("input", { type: "checkbox", id: "settle-gold", checked: item.said.length === 0 });
    this.note = make("textarea", { id: "settle-note", rows: 2 });
    this.problem = make("div");
    this.send = button("check", "Settle", () => this.submit(), "btn go");
    this.draw();
    element.showModal();
    element.querySelector("[role=radio][tabindex='0'], textarea").focus();
  }

  draw() {
    const { item } = this, prompt = make("div", "asked");
    cards.prompt(prompt, item.messages);
    fill(this.element, make("div", "row between", make("h2", { id: "settle-title" }, item.said.length ? "Settle a conflict" : "Give a known answer"),
      button("x", "Close", () => this.element.close(), "btn sm ghost")),
      prompt, make("p", "mut", item.instruction), this.entry.common,
      make("div", "answers", item.responses.map((response, index) => this.answer(response, index))),
      item.said.length > 0 && said(item.said), this.form(), this.problem, make("div", "row", this.send));
  }

  answer(response, index) {
    const letter = cards.LETTERS[index];
    return make("article", { class: "card", "aria-label": `Answer ${letter}` },
      make("div", "row between", make("span", { class: "let", "aria-hidden": "true" }, letter), this.entry.controls[index]),
      cards.prose(response.html, response.text));
  }

  form() {
    return make("div", "stack", make("div", "f", make("label", { for: "settle-note" }, "Why, for whoever asks later (optional)"), this.note),
      make("div", "", make("label", { class: "row", for: "settle-gold" }, this.gold, make("b", "", "A known answer (gold)")),
        make("p", "help mut small", "It then comes up among the items of people who have not seen it, and measures them. Only where nobody could honestly differ.")));
  }

  async submit() {
    const verdict = this.entry.verdict();
    if (!verdict) return fill(this.problem, say("warn", this.entry.missing));
    this.send.disabled = true;
    try {
      const body = { key: this.key, project: this.project, prompt: this.item.prompt, verdict, gold: this.gold.checked, note: this.note.value };
      const answer = await api("/api/quality/settle", { body });
      this.element.close();
      this.done(answer);
    } catch (error) {
      this.send.disabled = false;
      fill(this.problem, say("bad", error.message));
    }
  }
}

const said = (people) => make("details", "", make("summary", "", icon("chevron-right"), `What ${people.length === 1 ? "one person" : `${people.length} people`} said`),
  make("ul", "said", people.map(({ name, said: words, reasons, note }) => make("li", "", make("b", "", name), `: ${words}`,
    reasons && make("span", "mut", ` · ${reasons}`), note && make("p", "mut", note)))));

// ---- an answer in the terms of each feedback type: controls on the cards, or one control for all ----

const letterOf = (index) => cards.LETTERS[index];

/** One group of buttons; `chosen()` is what was chosen, null before. */
function chooser(name, options) {
  let value = null;
  const group = cards.radios(name, options, (picked) => { value = picked; group.paint(picked); }, "seg");
  group.paint(null);
  return { element: group.element, chosen: () => value };
}

/** A chooser on each card, whose choices become {field: {response: value}} once `enough` of them are made. */
function onEach(item, field, optionsOf, enough, missing) {
  const choosers = item.responses.map((_, index) => chooser(`Answer ${letterOf(index)}`, optionsOf(index)));
  const verdict = () => {
    const given = item.responses.map(({ id }, index) => [id, choosers[index].chosen()]).filter(([, value]) => value !== null);
    return given.length >= enough ? { [field]: Object.fromEntries(given) } : null;
  };
  return { controls: choosers.map((one) => one.element), common: null, verdict, missing };
}

const ENTRIES = {
  ranking: (item) => onEach(item, "ranks", () => item.responses.map((_, rank) => ({ value: rank + 1, label: `Rank ${rank + 1}`, content: String(rank + 1) })),
    2, "Rank at least two answers; the same number is a tie."),
  thumbs: (item) => onEach(item, "thumbs", () => [{ value: "up", label: "Good", content: "Good" }, { value: "down", label: "Not good", content: "Not good" }],
    1, "Say of at least one answer whether it is good."),
  pairwise() {
    const steps = [[-3, "A much better"], [-2, "A better"], [-1, "A slightly"], [0, "Tie"], [1, "B slightly"], [2, "B better"], [3, "B much better"]];
    const one = chooser("Which is better", steps.map(([value, label]) => ({ value, label, content: label })));
    return { controls: [null, null], common: one.element, verdict: () => (one.chosen() === null ? null : { choice: one.chosen() }), missing: "Choose which answer is better, or a tie." };
  },
  edit(item) {
    const areas = item.responses.map((response, index) => make("textarea", { "aria-label": `Answer ${letterOf(index)} as it should have been`, rows: 5, value: response.text }));
    const verdict = () => {
      const written = item.responses.map(({ id }, index) => [id, areas[index].value]).filter(([, text]) => text.trim());
      return written.length ? { rewrites: Object.fromEntries(written) } : null;
    };
    return { controls: areas.map(() => null), common: make("div", "stack", areas), verdict, missing: "Write at least one answer as it should have been." };
  },
};

Object.assign(window.Plumbline, { settling });
})();
