/* Entries: an item and what is said about it. What was said but not submitted is a draft: it survives a reload and a
   closed tab, as the item does when it comes to the same person again. */
(() => {
"use strict";
const DRAFT = "plumbline-draft-", OLDEST = 14 * 86400 * 1000; // ms; what was left longer ago is forgotten

const draftName = (assignment) => DRAFT + assignment;

/** What a person says: by answer or as a whole (answers), and beside it. */
const nothing = () => ({ answers: {}, scores: {}, reasons: [], flags: [], rewrites: {}, note: "", notes: {} });
const said = (entry) => Object.fromEntries(Object.keys(nothing()).map((field) => [field, entry[field]]));

function fresh(item) {
  const entry = { item, key: null, sent: {}, seconds: 0, ...nothing() };
  const { said, seconds = 0 } = JSON.parse(localStorage.getItem(draftName(item.assignment)) ?? "{}");
  return Object.assign(entry, { seconds }, said);
}

/** A judgment that the server has, as it was before it was sent. */
function judged({ item, key, verdict, notes, note, focused_seconds: seconds, judged_at: at }, mode) {
  const { scores = {}, reasons = [], flags = [], rewrites = {} } = verdict;
  return submitted({ item, key, sent: {}, at, seconds, answers: mode.restore(verdict), scores, reasons, flags, rewrites, note, notes });
}

/** As it will be once a change that waits to be sent has arrived. */
function changedBy({ item, at, sent }, body, mode) {
  const entry = judged({ ...body, item, judged_at: at }, mode);
  return Object.assign(entry, { sent: { ...sent, ...entry.sent } });
}

/** What is said now is what its key stands for; earlier keys keep what they stand for, as the server may refuse this one. */
function submitted(entry) {
  entry.sent[entry.key] = fingerprint(entry);
  return entry;
}

/** What is sent beside the verdict itself. A rewrite that was opened and left as it was says nothing here. */
function beside({ item, scores, reasons, flags, rewrites: opened }) {
  const original = Object.fromEntries(item.responses.map((response) => [response.id, response.text]));
  const rewrites = Object.fromEntries(Object.entries(opened).filter(([id, text]) => text.trim() && text.trim() !== original[id].trim()));
  return Object.fromEntries(Object.entries({ scores, reasons, flags, rewrites }).filter(([, value]) => tidy(value) !== undefined));
}

function keepDraft(entry) {
  if (entry.key) return;
  try {
    localStorage.setItem(draftName(entry.item.assignment), JSON.stringify({ at: Date.now(), seconds: entry.seconds, said: said(entry) }));
  } catch { // no room: what is on the screen stays there, and submitting needs no draft
    dropDraft(entry.item.assignment);
  }
}

const dropDraft = (assignment) => localStorage.removeItem(draftName(assignment));

/** Drafts of items that never came back. Another tab may drop one at the same time. */
function dropOldDrafts() {
  for (const name of Object.keys(localStorage).filter((one) => one.startsWith(DRAFT)))
    if (!(JSON.parse(localStorage.getItem(name))?.at > Date.now() - OLDEST)) localStorage.removeItem(name);
}

/** What was said, as one string, whatever the order in which it was; what was emptied again counts as not said. */
const fingerprint = (entry) => JSON.stringify(tidy(said(entry)) ?? {});

function tidy(value) {
  if (Array.isArray(value)) return value.length ? [...value].sort() : undefined;
  if (typeof value !== "object" || value === null) return value === "" ? undefined : value;
  const kept = Object.entries(value).map(([name, one]) => [name, tidy(one)]).filter(([, one]) => one !== undefined).sort();
  return kept.length ? Object.fromEntries(kept) : undefined;
}

/** Whether it says something else than what it was submitted as. */
const changed = (entry) => fingerprint(entry) !== entry.sent[entry.key];

/** Leaving a reopened judgment without submitting takes back what was changed. */
const restore = (entry) => Object.assign(entry, nothing(), JSON.parse(entry.sent[entry.key]));

Object.assign(window.Plumbline, { entries: { fresh, judged, changedBy, submitted, changed, beside, keepDraft, dropDraft, dropOldDrafts, restore } });
})();
