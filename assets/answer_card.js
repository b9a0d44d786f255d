/* A card of the label page: the answer, what is said about it, and the fields for a note, the ideal answer and scores. */
(() => {
"use strict";
const { make, fill, cards, keys, words } = window.Plumbline;

const LONGEST_NOTE = 2000, LONGEST_REWRITE = 100_000;
const SCORES = [1, 2, 3, 4, 5];

class AnswerCard {
  /** `act` holds what the fields do: choose, focus, noted, rewrite, rewritten, takeBack, score. */
  constructor(response, index, entry, mode, criteria, act) {
    Object.assign(this, { id: response.id, index, act, letter: cards.LETTERS[index] });
    this.state = make("span", "state-of");
    this.group = mode.options && cards.radios(mode.group(this.letter), mode.options(entry.item.responses.length),
      (value) => act.choose(index, value), `opts ${mode.name}`);
    this.note = this.noteField(entry.notes[this.id] ?? "");
    this.rewrite = this.rewriteField();
    this.scores = criteria.map((criterion) => this.scoreGroup(criterion));
    const drawn = cards.card(response, index, { head: [this.state, this.group?.element], foot: this.foot() });
    Object.assign(this, drawn);
    this.text = this.element.querySelector(":scope > .text");
    this.badge.dataset.drag = index;
    for (const name of ["focusin", "pointerdown"]) this.element.addEventListener(name, () => act.focus(index, { move: false }));
  }

  foot() {
    const { letter } = this;
    const note = keys.tool({ icon: "message-square", text: words("note"), key: "N", press: () => this.openNote(), cls: "btn ghost sm mini" });
    const rewrite = keys.tool({ icon: "pencil", text: words("rewrite"), key: "R", press: () => this.act.rewrite(this.index), cls: "btn ghost sm mini" });
    note.setAttribute("aria-label", words("note_on", { letter }));
    rewrite.setAttribute("aria-label", words("rewrite_of", { letter }));
    const scores = this.scores.length > 0 && make("div", "scores", this.scores.map((one) => one.row));
    this.difference = make("span", { class: "difference small", hidden: true });
    return [this.rewrite.box, scores, make("div", "cf", note, rewrite, this.difference), this.note];
  }

  noteField(value) {
    return make("textarea", { class: "note", dir: "auto", rows: 2, hidden: !value, maxlength: LONGEST_NOTE, value,
      "aria-label": words("note_on", { letter: this.letter }), placeholder: words("note_hint"),
      oninput: () => this.act.noted(this.id, this.note.value) });
  }

  rewriteField() {
    const { letter } = this;
    const text = make("textarea", { class: "ideal", dir: "auto", rows: 5, maxlength: LONGEST_REWRITE,
      "aria-label": words("ideal", { letter }), oninput: () => this.act.rewritten(this.id, text.value) });
    const back = make("button", { class: "btn ghost sm mini", type: "button", "aria-label": words("take_back_rewrite", { letter }),
      onclick: () => this.act.takeBack(this.index) }, words("take_back"));
    const box = make("div", { class: "rewriting", hidden: true }, make("div", "cf", make("span", "sl", words("ideal", { letter })), back), text);
    return { box, text };
  }

  scoreGroup(criterion) {
    const { letter } = this;
    const options = SCORES.map((value) => ({ value, label: words("score_value", { n: value }), content: words.number(value) }));
    const group = cards.radios(words("score", { criterion, letter }), options, (value) => this.act.score(this.index, criterion, value), "opts score");
    return { criterion, group, row: make("div", "score-row", make("span", { class: "sl", dir: "auto", "aria-hidden": "true" }, criterion), group.element) };
  }

  /** Compared with the answer `letter`: how many words only this one has (`here`), and only that one (`there`); null where nothing is. */
  paintDifference(found) {
    this.difference.hidden = found === null;
    if (found) this.difference.textContent = found.letter ? words(found.here || found.there ? "differ" : "differ_none", found) : words("differ_others");
  }

  openNote() {
    this.note.hidden = false;
    this.note.focus();
  }

  openRewrite() {
    this.rewrite.text.focus();
    this.rewrite.text.setSelectionRange(0, 0);
    this.rewrite.box.scrollIntoView({ block: "nearest" });
  }

  paint(entry, mode, inFocus) {
    this.element.classList.toggle("on", inFocus);
    this.element.dataset.v = mode.mark(entry.answers, this.id, this.index);
    this.state.textContent = mode.stateOf(entry.answers, this.id);
    this.group?.paint(entry.answers[this.id]);
    for (const { criterion, group } of this.scores) group.paint(entry.scores[this.id]?.[criterion]);
    this.paintRewrite(entry.rewrites[this.id]);
  }

  /** The field keeps its cursor: it is written to only where it says something else. */
  paintRewrite(text) {
    this.rewrite.box.hidden = text === undefined;
    if ((text ?? "") !== this.rewrite.text.value) this.rewrite.text.value = text ?? "";
  }

  /** The score group after the one that has the keyboard; null where there is none left on this card. */
  nextScore() {
    const here = this.scores.findIndex(({ group }) => group.element.contains(document.activeElement));
    return this.scores[here + 1]?.group.element.querySelector("[tabindex='0']") ?? null;
  }
}

Object.assign(window.Plumbline, { AnswerCard });
})();
