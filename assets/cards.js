/* Answers as cards: what the label page and the compare page draw alike.

   Texts from models arrive as HTML that the server made from Markdown. It is not trusted: it is parsed into a document
   of its own, where nothing runs or loads, and only known elements are copied from it, without their attributes. */
(() => {
"use strict";
const { make, fill } = window.Plumbline;

const LETTERS = "ABCDEF";
const ALLOWED = new Set(("P BR HR STRONG EM S DEL CODE PRE BLOCKQUOTE UL OL LI H1 H2 H3 H4 H5 H6 TABLE THEAD TBODY TR TH TD A"
  + " SUP SUB").split(" "));
const HEADING = /^H[1-6]$/;
const ROLES = { system: "System", user: "User", assistant: "Assistant" };

/** The allowed elements and all the text of `html`, as a fragment. */
function safe(html) {
  const copy = document.createDocumentFragment();
  copyChildren(new DOMParser().parseFromString(html, "text/html").body, copy);
  return copy;
}

function copyChildren(from, to) {
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) to.append(node.data);
    else if (node.nodeType === Node.ELEMENT_NODE) to.append(ALLOWED.has(node.tagName) ? copyElement(node) : node.textContent);
  }
}

function copyElement(node) {
  const copy = document.createElement(HEADING.test(node.tagName) ? lowerHeading(node.tagName) : node.tagName);
  if (node.tagName === "A") addLink(copy, node.getAttribute("href") ?? "");
  if (node.tagName === "OL" && node.start !== 1) copy.start = node.start;
  if (node.tagName === "PRE") copy.tabIndex = 0; // it scrolls sideways, so the keyboard must reach it
  copyChildren(node, copy);
  return copy;
}

/** An answer's headings stand below the page's own: its h1 is our h4. */
const lowerHeading = (tag) => `h${Math.min(6, Number(tag[1]) + 3)}`;

function addLink(copy, href) {
  if (!/^https?:\/\//i.test(href)) return;
  copy.href = copy.title = href;
  copy.target = "_blank";
  copy.rel = "noopener noreferrer nofollow";
}

/** Rendered text; says so where there is none, because an empty answer is an answer too. */
function prose(html, text = null) {
  if (text !== null && !text.trim()) return make("div", "text", make("p", "mut", "This answer is empty."));
  return make("div", "text", safe(html));
}

/** The messages of a prompt, the last one large; names of roles only where there is more than one message. */
function prompt(element, messages) {
  const last = messages.length - 1;
  fill(element, messages.map((message, index) => make("div", index === last ? "turn" : "turn old",
    last > 0 && make("span", "role", ROLES[message.role] ?? message.role), prose(message.html))));
}

/** One answer: a letter, the page's own things in the head, the text, and whatever stands below it. */
function card(response, index, { head = [], foot = [] } = {}) {
  const letter = LETTERS[index];
  const badge = make("span", { class: "let", "aria-hidden": "true" }, letter);
  const element = make("article", { class: "card answer", tabindex: "-1", "aria-label": `Answer ${letter}`, "data-index": index },
    make("div", "ch", badge, head), prose(response.html, response.text), foot);
  return { element, badge, letter };
}

/** A group of radio buttons with one tab stop. Options are {value, label, content}; paint(value) shows which is on.
    `arrows`: left and right choose within it; false where they mean so on the whole page. */
function radios(name, options, pick, cls, { arrows = true } = {}) {
  const buttons = options.map((option) => make("button", { type: "button", role: "radio", "aria-label": option.label,
    title: option.label, "data-v": option.value, onclick: () => pick(option.value) }, option.content));
  const element = make("div", { class: cls, role: "radiogroup", "aria-label": name,
    onkeydown: (event) => arrows && moveInside(event, buttons) }, buttons);
  return { element, paint: (value) => paintRadios(buttons, options, value) };
}

function paintRadios(buttons, options, value) {
  const chosen = options.findIndex((option) => option.value === value);
  buttons.forEach((button, index) => {
    button.setAttribute("aria-checked", String(index === chosen));
    button.tabIndex = index === Math.max(chosen, 0) ? 0 : -1;
  });
}

/** Left and right choose within the group, as in any group of radio buttons. */
function moveInside(event, buttons) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const here = buttons.indexOf(document.activeElement);
  const next = buttons[(here + step + buttons.length) % buttons.length];
  next.focus();
  next.click();
}

/** Calls back once what was just drawn is on the screen. */
const painted = (then) => requestAnimationFrame(() => setTimeout(then));

Object.assign(window.Plumbline, { cards: { LETTERS, safe, prose, prompt, card, radios, painted } });
})();
