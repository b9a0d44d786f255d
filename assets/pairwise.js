/* Pairwise: one scale of seven from "A much better" over a tie to "B much better", and "both bad" beside it. */
(() => {
"use strict";
const { make, cards, keys, words } = window.Plumbline;

const BOTH_BAD = "both_bad";
const STEPS = { arrowleft: -1, arrowright: 1 };

const stepped = (now, step) => Math.min(3, Math.max(-3, (typeof now === "number" ? now : 0) + step));

/** A choice is -3 to 3 (negative: A is better) or "both_bad"; null while there is none. */
const pairwise = {
  name: "pairwise",
  keyRows: () => [["1 … 7", words("key_scale")], ["← →", words("key_step")], ["0", words("key_both_bad")]],
  /** Arrows step from `now`, the choice so far. */
  valueOf: (key, now = null) => (key in STEPS ? stepped(now, words.forwards() * STEPS[key]) : key === "0" ? BOTH_BAD : /^[1-7]$/.test(key) ? Number(key) - 4 : undefined),
  verdict: (choice) => (choice === BOTH_BAD ? { both_bad: true } : { choice }),
  inWords: (choice) => (choice === null ? "" : choice === BOTH_BAD ? words("both_bad") : words.list("scale")[choice + 3].text),

  /** The index of the better answer; -1 where none is. */
  better: (choice) => (choice < 0 ? 0 : choice > 0 ? 1 : -1),

  /** The scale and its button; paint(choice, over) shows what is chosen, and whether it stands. */
  control(pick) {
    const options = words.list("scale").map(({ text }, index) => ({ value: index - 3, label: text, content: String(index + 1) }));
    const scale = cards.radios(words("which_is_better"), options, pick, "scale", { arrows: false });
    const bad = keys.tool({ text: words("both_bad"), key: "0", press: () => pick(BOTH_BAD) });
    const said = make("span", { class: "b said" });
    const element = make("div", "pair", make("div", "ends", make("b", "", "A"), scale.element, make("b", "", "B")), said, bad);
    const paint = (choice, over) => {
      scale.paint(choice);
      if (scale.element.contains(document.activeElement)) scale.element.querySelector("[aria-checked=true]")?.focus();
      for (const button of element.querySelectorAll("button")) button.disabled = over;
      bad.setAttribute("aria-pressed", String(choice === BOTH_BAD));
      said.textContent = pairwise.inWords(choice);
    };
    return { element, paint };
  },
};

/** Pairwise on the label page: one choice for the whole item, kept under the name "choice". */
const pairwiseMode = {
  name: "pairwise",
  whole: "choice",
  keyRows: pairwise.keyRows,
  valueOf: (key, n, answers) => pairwise.valueOf(key, answers.choice ?? null),
  verdict: ({ choice }) => pairwise.verdict(choice),
  restore: ({ choice, both_bad: bad }) => ({ choice: bad ? BOTH_BAD : choice }),
  mark: ({ choice }, id, index) => (typeof choice === "number" && pairwise.better(choice) === index ? "better" : ""),
  stateOf: () => "",
  said: (letter, { choice }) => (choice === undefined ? words("said_no_choice") : pairwise.inWords(choice)),
  status: ({ answers }) => (answers.choice === undefined ? { ready: false, text: words("choose") } : { ready: true, text: words("submit") }),

  /** The control stays as it is drawn, because the keyboard may be on it. */
  tray(element, { answers }, ids, choose) {
    if (!element.control) element.replaceChildren((element.control = pairwise.control((value) => choose(0, value))).element);
    element.control.paint(answers.choice ?? null, false);
  },
};

Object.assign(window.Plumbline, { pairwise, pairwiseMode });
})();
