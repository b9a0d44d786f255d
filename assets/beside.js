/* What can be said about an item as a whole, beside the verdict: what decided, and flags for the lead. Each is one key. */
(() => {
"use strict";
const { make, fill, keys, words } = window.Plumbline;

const REASON_KEYS = "hijklmoq"; // what the letters of cards, the buttons and the flags leave free
const FLAGS = { u: "unsafe", p: "personal_data", w: "for_the_lead" };

/** What a key switches in an item of this project: {field: "reasons" or "flags", value, text}; null where nothing. */
function switched(key, project) {
  if (key in FLAGS) return { field: "flags", value: FLAGS[key], text: words(`flag_${FLAGS[key]}`) };
  const reason = project.reasons[REASON_KEYS.indexOf(key)];
  return reason === undefined ? null : { field: "reasons", value: reason, text: reason };
}

/** Two groups of chips; paint(entry) shows which are on. toggle(switched) is called for each press. */
function chips(root, project, toggle) {
  const reasons = project.reasons.map((reason, index) => chip(REASON_KEYS[index], { field: "reasons", value: reason, text: reason }, toggle));
  const flags = Object.keys(FLAGS).map((key) => chip(key, switched(key, project), toggle));
  fill(root, reasons.length > 0 && group("reasons", reasons), group("flags", flags));
  return { paint: (entry) => [...reasons, ...flags].forEach((one) => one.paint(entry)) };
}

const group = (name, members) => make("div", { class: `chips ${name}`, role: "group", "aria-label": words(name) },
  make("span", { class: "sl", "aria-hidden": "true" }, words(name)), members.map((one) => one.element));

function chip(key, said, toggle) {
  const element = make("button", { class: "pick", type: "button", "aria-keyshortcuts": key?.toUpperCase(), onclick: () => toggle(said) },
    make("span", { dir: "auto" }, said.text), key && keys.cap(key.toUpperCase()));
  return { element, paint: (entry) => element.setAttribute("aria-pressed", String(entry[said.field].includes(said.value))) };
}

Object.assign(window.Plumbline, { beside: { switched, chips, reasonKeys: (n) => REASON_KEYS.slice(0, n).toUpperCase().split("").join(" ") } });
})();
