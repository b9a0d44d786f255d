/* Pairwise: one scale of seven from "A much better" over a tie to "B much better", and "both bad" beside it. */
(() => {
"use strict";
const { make, cards, keys } = window.Plumbline;

const SCALE = ["A much better", "A better", "A slightly better", "Tie", "B slightly better", "B better", "B much better"];
const BOTH_BAD = "both_bad";
const STEPS = { arrowleft: -1, arrowright: 1 };

const stepped = (now, step) => Math.min(3, Math.max(-3, (typeof now === "number" ? now : 0) + step));

/** A choice is -3 to 3 (negative: A is better) or "both_bad"; null while there is none. */
const pairwise = {
  name: "pairwise",
  keyRows: () => [["1 … 7", "From “A much better” (1) over a tie (4) to “B much better” (7)"], ["← →", "One step along the scale, from its middle at first; always on"], ["0", "Both are bad"]],
  /** Arrows step from `now`, the choice so far. */
  valueOf: (key, now = null) => (key in STEPS ? stepped(now, STEPS[key]) : key === "0" ? BOTH_BAD : /^[1-7]$/.test(key) ? Number(key) - 4 : undefined),
  verdict: (choice) => (choice === BOTH_BAD ? { both_bad: true } : { choice }),
  inWords: (choice) => (choice === null ? "" : choice === BOTH_BAD ? "Both bad" : SCALE[choice + 3]),

  /** The index of the better answer; -1 where none is. */
  better: (choice) => (choice < 0 ? 0 : choice > 0 ? 1 : -1),

  /** The scale and its button; paint(choice, over) shows what is chosen, and whether it stands. */
  control(pick) {
    const options = SCALE.map((label, index) => ({ value: index - 3, label, content: String(index + 1) }));
    const scale = cards.radios("Which answer is better", options, pick, "scale", { arrows: false });
    const bad = keys.tool({ text: "Both bad", key: "0", press: () => pick(BOTH_BAD) });
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

Object.assign(window.Plumbline, { pairwise });
})();
