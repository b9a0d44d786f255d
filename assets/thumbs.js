/* Thumbs: each answer is good enough (up) or not (down). A way of judging is an object like this one; see label.js. */
(() => {
"use strict";
const { icon, words } = window.Plumbline;

const OPTIONS = [{ value: "up", label: "thumb_up", name: "thumbs-up" }, { value: "down", label: "thumb_down", name: "thumbs-down" }];
const SAID = { up: "said_thumb_up", down: "said_thumb_down" };

const thumbs = {
  name: "thumbs",
  group: (letter) => words("thumb_for", { letter }),
  keyRows: () => [["↑ ↓", words("key_thumb")], ["0", words("key_thumb_none")]],

  options: () => OPTIONS.map(({ value, label, name }) => ({ value, label: words(label), content: icon(name) })),

  /** The value that a key gives to the answer in focus: null clears, undefined is no key of this way of judging. */
  valueOf: (key) => ({ arrowup: "up", arrowdown: "down", 0: null })[key],

  verdict: (answers) => ({ thumbs: answers }),
  restore: (verdict) => ({ ...verdict.thumbs }),
  mark: (answers, id) => answers[id] ?? "",
  stateOf: () => "",
  said: (letter, answers, id) => words(SAID[answers[id]] ?? "said_no_thumb", { letter }),

  status({ answers }, ids) {
    const left = ids.length - Object.keys(answers).length;
    if (left === ids.length) return { ready: false, text: words("give_thumb") };
    return { ready: true, text: left ? words("submit_without", { n: left }) : words("submit") };
  },

  tray(element, { answers }, ids) {
    const given = Object.values(answers), up = given.filter((value) => value === "up").length;
    element.textContent = words("thumbs_tray", { up, down: given.length - up, left: ids.length - given.length });
  },
};

Object.assign(window.Plumbline, { thumbs });
})();
