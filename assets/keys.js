/* The keyboard: which key was meant, if any, and the sheets that open from it (all keys, guidelines, reasons to skip).

   Keys are never taken from a text field, a menu or a dialog, nor with AltGr, Ctrl, Alt or the command key held, nor
   repeated by a held key. Single characters can be switched off (WCAG 2.1.4); Enter, arrows and page keys stay. */
(() => {
"use strict";
const { make, icon, fill, words } = window.Plumbline;

const SWITCH = "plumbline-keys";
const TEXT_FIELDS = "input:not([type=checkbox],[type=radio]), textarea, select, [contenteditable]";
const NAMED = /^(Arrow(Up|Down|Left|Right)|Page(Up|Down))$/;
const OWN_ENTER = "a, summary, button:not([role=radio])"; // these do something else with Enter

const keysAreOn = () => localStorage.getItem(SWITCH) !== "off";

function switchKeys(root, on) {
  localStorage.setItem(SWITCH, on ? "on" : "off");
  root.classList.toggle("nokeys", !on);
}

/** "submit", "escape", "arrowup", "pagedown" and the like, or a character in lower case; null where no key of ours was meant. */
function meant(event) {
  if (event.defaultPrevented || event.isComposing || event.repeat || document.querySelector("dialog[open]")) return null;
  const inText = event.target.closest?.(TEXT_FIELDS);
  if (event.key === "Enter") return meansSubmit(event, inText) ? "submit" : null;
  if (event.key === "Escape") return "escape";
  if (inText || event.ctrlKey || event.metaKey || event.altKey || event.getModifierState("AltGraph")) return null;
  if (NAMED.test(event.key)) return scrolls(event) ? null : event.key.toLowerCase();
  return event.key.length === 1 && keysAreOn() ? character(event) : null;
}

/** Whether an arrow scrolls what has the keyboard: an answer longer than its card, or code that is wider. */
function scrolls({ key, target }) {
  if (/^Arrow(Up|Down)$/.test(key)) return Boolean(target.closest?.(".text[tabindex]"));
  return key.startsWith("Arrow") && Boolean(target.matches?.(".text, .text pre")) && target.scrollWidth > target.clientWidth;
}

function meansSubmit(event, inText) {
  if (event.ctrlKey || event.metaKey) return true;
  return !inText && !event.altKey && !event.shiftKey && !event.target.closest?.(OWN_ENTER);
}

/** Digits by their place, because some layouts (French) write them with Shift. */
function character(event) {
  const digit = /^Digit(\d)$/.exec(event.code);
  return digit && !event.shiftKey ? digit[1] : event.key.toLowerCase();
}

const cap = (key) => make("kbd", { "aria-hidden": "true" }, key);

/** A button with its key drawn on it: tool({icon: "book-open", text: "Guidelines", key: "G", press}). */
function tool({ icon: name, text, key, press, cls = "btn ghost" }) {
  return make("button", { class: cls, type: "button", "aria-keyshortcuts": key === "↵" ? "Enter" : key, onclick: press },
    name && icon(name), make("span", "", text), cap(key));
}

/* ---- sheets ---- */

/** A dialog that closes by Escape, by its cross and by a click beside it. */
function sheet(title, content, cls = "sheet") {
  const close = make("button", { class: "tool", type: "button", "aria-label": words("close"), onclick: () => dialog.close() }, icon("x"));
  const dialog = make("dialog", { class: cls, "aria-label": title, onclick: (event) => event.target === dialog && dialog.close() },
    make("div", "inside", make("div", "dh", make("h2", "", title), close), content));
  return dialog;
}

/** `rows` are [key, what it does]. */
function keysSheet(root, rows) {
  const box = make("input", { type: "checkbox", onchange: () => switchKeys(root, box.checked) });
  box.checked = keysAreOn();
  root.classList.toggle("nokeys", !box.checked);
  const list = make("dl", "keys", rows.map(([key, meaning]) => [make("dt", "", make("kbd", "", key)), make("dd", "", meaning)]));
  return sheet(words("all_keys"), [list, make("label", "check", box, words("keys_on"))]);
}

function guidelinesSheet() {
  const body = make("div");
  const dialog = sheet(words("guidelines"), body, "sheet drawer");
  return { dialog, fill: (content) => fill(body, content) };
}

/** Reasons are one key away, and never asked for: 1 to 4 choose one, Enter skips with it or with none. */
function skipSheet(skip) {
  const own = make("input", { type: "text", maxlength: 500, id: "skip-words" });
  const reasons = words.list("skip_reasons");
  const boxes = reasons.map(({ english }) => make("input", { type: "radio", name: "skip-reason", value: english }));
  const choices = boxes.map((box, index) => make("label", "check", box, cap(String(index + 1)), reasons[index].text));
  const form = make("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); done(); }, onkeydown: key },
    make("div", { role: "radiogroup", "aria-label": words("skip_why") }, choices),
    make("div", "f", make("label", { for: "skip-words" }, words("skip_words")), own),
    make("div", "acts end", make("button", { class: "btn go" }, words("skip_go"), cap("↵"))));
  const dialog = sheet(words("skip_title"), form);
  function key(event) {
    if (event.target === own) return guardText(event);
    const box = keysAreOn() && !event.ctrlKey && !event.metaKey && !event.altKey && boxes[character(event) - 1];
    if (!box) return;
    event.preventDefault();
    box.checked = true;
    box.focus();
  }
  function guardText(event) { // Enter within a text field submits nothing; with Ctrl or the command key it does
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) done();
  }
  function done() {
    const reason = [new FormData(form).get("skip-reason"), own.value.trim()].filter(Boolean).join(": ");
    dialog.close();
    skip(reason);
  }
  return { dialog, open: () => { form.reset(); dialog.showModal(); boxes[0].focus(); } };
}

const toggle = (dialog) => (dialog.open ? dialog.close() : dialog.showModal());

Object.assign(window.Plumbline, { keys: { meant, cap, tool, sheet, keysSheet, guidelinesSheet, skipSheet, toggle } });
})();
