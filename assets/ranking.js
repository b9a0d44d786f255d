/* Ranking: a number for each answer, 1 is best, the same number is a tie. Cards stay where they are; the tray below
   shows the tiers as they form, and a letter dragged into it says the same as its digit. */
(() => {
"use strict";
const { make, fill, cards, words } = window.Plumbline;

const upTo = (n) => Array.from({ length: n }, (_, index) => index + 1);
const ordinal = (n) => words("ordinal", { n });
const sameRank = (answers, id) => Object.keys(answers).filter((other) => other !== id && answers[other] === answers[id]);

const ranking = {
  name: "ranking",
  group: (letter) => words("rank_for", { letter }),
  keyRows: (n) => [[`1 … ${n}`, words("key_rank")], ["0", words("key_rank_none")]],

  options: (n) => upTo(n).map((rank) => ({ value: rank, label: words("rank", { n: rank }), content: String(rank) })),

  /** The value that a key gives to the answer in focus: null clears, undefined is no key of this way of judging. */
  valueOf(key, n) {
    if (!/^[0-9]$/.test(key) || Number(key) > n) return undefined;
    return Number(key) || null;
  },

  verdict: (answers) => ({ ranks: answers }),
  restore: (verdict) => ({ ...verdict.ranks }),

  mark: (answers, id) => answers[id] ?? "",

  stateOf(answers, id) {
    if (!answers[id]) return "";
    const rank = ordinal(answers[id]);
    return sameRank(answers, id).length ? words("tie", { rank }) : rank;
  },

  said(letter, answers, id, ids) {
    if (!answers[id]) return words("said_unranked", { letter });
    const others = sameRank(answers, id).map((other) => cards.LETTERS[ids.indexOf(other)]).sort();
    const values = { letter, n: answers[id], others: words.and(others) };
    return words(others.length ? "said_tied" : "said_ranked", values);
  },

  status({ answers }, ids) {
    const ranked = Object.keys(answers).length, left = ids.length - ranked;
    if (ranked < 2) return { ready: false, text: words(ranked ? "rank_one_more" : "rank_two") };
    return { ready: true, text: left ? words("submit_unranked", { n: left }) : words("submit") };
  },

  tray(element, { answers }, ids) {
    const unranked = ids.filter((id) => !answers[id]);
    const pool = slot(0, words("unranked"), unranked, ids);
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
