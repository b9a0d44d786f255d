/* Thumbs: each answer is good enough (up) or not (down). A way of judging is an object like this one; see label.js. */
(() => {
"use strict";
const { icon } = window.Plumbline;

const OPTIONS = [{ value: "up", label: "Thumbs up", name: "thumbs-up" }, { value: "down", label: "Thumbs down", name: "thumbs-down" }];

const thumbs = {
  name: "thumbs",
  group: "Thumb for answer",
  keyRows: () => [["↑ ↓", "Thumb up or down for the answer in focus, and on to the next"], ["0", "Take its thumb back"]],

  options: () => OPTIONS.map(({ value, label, name }) => ({ value, label, content: icon(name) })),

  /** The value that a key gives to the answer in focus: null clears, undefined is no key of this way of judging. */
  valueOf: (key) => ({ arrowup: "up", arrowdown: "down", 0: null })[key],

  verdict: (answers) => ({ thumbs: answers }),
  restore: (verdict) => ({ ...verdict.thumbs }),
  stateOf: () => "",
  said: (letter, answers, id) => (answers[id] ? `Answer ${letter}: thumb ${answers[id]}.` : `Answer ${letter}: no thumb.`),

  status(answers, ids) {
    const left = ids.length - Object.keys(answers).length;
    if (left === ids.length) return { ready: false, text: "Give a thumb" };
    return { ready: true, text: left ? `Submit, ${left} without` : "Submit" };
  },

  tray(element, answers, ids) {
    const given = Object.values(answers), up = given.filter((value) => value === "up").length;
    element.textContent = `${up} good, ${given.length - up} bad, ${ids.length - given.length} to rate`;
  },
};

Object.assign(window.Plumbline, { thumbs });
})();
