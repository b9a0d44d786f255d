/* Entries: an item and what is said about it. What was said but not submitted is a draft and survives a reload. */
(() => {
"use strict";
const draftName = (entry) => `plumbline-draft-${entry.item.assignment}`;

function fresh(item) {
  const entry = { item, key: null, answers: {}, note: "", notes: {}, seconds: 0 };
  return Object.assign(entry, JSON.parse(sessionStorage.getItem(draftName(entry)) ?? "{}"));
}

function keepDraft(entry) {
  if (entry.key) return;
  sessionStorage.setItem(draftName(entry), JSON.stringify({ answers: entry.answers, notes: entry.notes }));
}

const dropDraft = (entry) => sessionStorage.removeItem(draftName(entry));

/** What was said, as one string; notes that were emptied again count as none. */
function fingerprint({ answers, notes }) {
  const sorted = (object) => Object.entries(object).filter(([, value]) => value !== "").sort();
  return JSON.stringify([sorted(answers), sorted(notes)]);
}

/** Leaving a reopened judgment without submitting takes back what was changed. */
function restore(entry) {
  const [answers, notes] = JSON.parse(entry.as);
  Object.assign(entry, { answers: Object.fromEntries(answers), notes: Object.fromEntries(notes) });
}

Object.assign(window.Plumbline, { entries: { fresh, keepDraft, dropDraft, fingerprint, restore } });
})();
