/* Ranking: a number for each answer, 1 is best, the same number is a tie. Cards stay where they are; the tray below
   shows the tiers as they form, and a letter dragged into it says the same as its digit. */
(() => {
"use strict";
const { make, fill, cards } = window.Plumbline;

const upTo = (n) => Array.from({ length: n }, (_, index) => index + 1);
const ENDINGS = { 1: "st", 2: "nd", 3: "rd" };
const ordinal = (n) => n + (ENDINGS[n] ?? "th");
const sameRank = (answers, id) => Object.keys(answers).filter((other) => other !== id && answers[other] === answers[id]);

const ranking = {
  name: "ranking",
  group: "Rank for answer",
  keyRows: (n) => [[`1 … ${n}`, "Rank the answer in focus and move on; the same number is a tie"], ["0", "Take its rank back"]],

  options: (n) => upTo(n).map((rank) => ({ value: rank, label: `Rank ${rank}`, content: String(rank) })),

  /** The value that a key gives to the answer in focus: null clears, undefined is no key of this way of judging. */
  valueOf(key, n) {
    if (!/^[0-9]$/.test(key) || Number(key) > n) return undefined;
    return Number(key) || null;
  },

  verdict: (answers) => ({ ranks: answers }),
  restore: (verdict) => ({ ...verdict.ranks }),

  stateOf(answers, id) {
    if (!answers[id]) return "";
    return ordinal(answers[id]) + (sameRank(answers, id).length ? ", tie" : "");
  },

  said(letter, answers, id, ids) {
    if (!answers[id]) return `Answer ${letter}: no rank.`;
    const tied = sameRank(answers, id).map((other) => cards.LETTERS[ids.indexOf(other)]).sort().join(" and ");
    return `Answer ${letter} ranked ${answers[id]}${tied ? `, tied with ${tied}` : ""}.`;
  },

  status(answers, ids) {
    const ranked = Object.keys(answers).length, left = ids.length - ranked;
    if (ranked < 2) return { ready: false, text: ranked ? "Rank one more" : "Rank at least two" };
    return { ready: true, text: left ? `Submit, ${left} unranked` : "Submit" };
  },

  tray(element, answers, ids) {
    const unranked = ids.filter((id) => !answers[id]);
    const pool = slot(0, "Unranked", unranked, ids);
    pool.classList.toggle("none", unranked.length === 0);
    fill(element, pool, upTo(ids.length).map((rank) => slot(rank, ordinal(rank), ids.filter((id) => answers[id] === rank), ids)));
  },
};

function slot(rank, name, members, ids) {
  const chips = members.map((id) => chip(ids.indexOf(id)));
  return make("div", { class: rank ? "slot" : "slot pool", "data-slot": rank }, make("span", "sl", name), chips);
}

const chip = (index) => make("span", { class: "chip", "data-drag": index }, cards.LETTERS[index]);

/** Letters can be dragged by mouse, pen or finger: drop(index, rank) at the end, rank 0 being the pool; a click is focus(index). */
function dragLetters(root, { drop, focus, active }) {
  root.addEventListener("pointerdown", (event) => {
    const letter = event.target.closest("[data-drag]");
    if (!letter || event.button !== 0 || !active()) return;
    event.preventDefault();
    follow(root, event, Number(letter.dataset.drag), { drop, focus });
  });
}

function follow(root, start, index, { drop, focus }) {
  const ghost = chip(index), listening = new AbortController(), options = { signal: listening.signal };
  let moving = false;
  ghost.classList.add("ghost");

  function move(event) {
    if (!moving && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < 5) return;
    if (!moving) root.append(ghost);
    moving = true;
    root.classList.add("dragging");
    ghost.style.transform = `translate(${event.clientX - 18}px, ${event.clientY - 18}px)`;
    for (const one of root.querySelectorAll(".slot")) one.classList.toggle("over", one === slotAt(event));
  }

  function end(event) {
    listening.abort();
    ghost.remove();
    root.classList.remove("dragging");
    const target = event.type === "pointerup" && moving ? slotAt(event) : null;
    for (const one of root.querySelectorAll(".slot.over")) one.classList.remove("over");
    if (!moving) focus(index);
    else if (target) drop(index, Number(target.dataset.slot));
  }

  window.addEventListener("pointermove", move, options);
  window.addEventListener("pointerup", end, options);
  window.addEventListener("pointercancel", end, options);
}

const slotAt = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest(".slot") ?? null;

Object.assign(window.Plumbline, { ranking, dragLetters });
})();
