/* Edit: an answer is rewritten into what it should have been. The writing itself is part of every card (answer_card.js),
   because R rewrites beside any other judgment too; here it is the judgment. */
(() => {
"use strict";
const { words } = window.Plumbline;

const written = ({ rewrites }) => Object.entries(rewrites).filter(([, text]) => text.trim());

const edit = {
  name: "edit",
  keyRows: () => [["0", words("key_rewrite_none")]],
  valueOf: (key) => (key === "0" ? null : undefined),
  verdict: (answers, entry) => ({ rewrites: Object.fromEntries(written(entry)) }),
  restore: () => ({}),
  mark: () => "",
  stateOf: () => "",
  said: (letter) => words("said_taken_back", { letter }),

  /** An answer that was opened and left as it was is ideal: that is worth submitting too. */
  status(entry) {
    const texts = written(entry);
    if (!texts.length) return { ready: false, text: words("rewrite_first") };
    const same = texts.every(([id, text]) => text.trim() === entry.item.responses.find((one) => one.id === id).text.trim());
    return { ready: true, text: words(same ? "submit_as_it_is" : "submit") };
  },

  tray(element, entry) {
    const n = written(entry).length;
    element.textContent = n ? words("edit_tray_written", { n }) : words("edit_tray");
  },
};

Object.assign(window.Plumbline, { edit });
})();
