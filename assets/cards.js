/* Answers as cards: what the label page and the compare page draw alike.

   Texts from models arrive as HTML that the server made from Markdown. It is not trusted: it is parsed into a document
   of its own, where nothing runs or loads, and only known elements are copied from it, without their attributes. */
(() => {
"use strict";
const { make, fill, words } = window.Plumbline;

const LETTERS = "ABCDEF";
const ALLOWED = new Set(("P BR HR STRONG EM S DEL CODE PRE BLOCKQUOTE UL OL LI H1 H2 H3 H4 H5 H6 TABLE THEAD TBODY TR TH TD A"
  + " SUP SUB SPAN").split(" "));
const MATHML = "http://www.w3.org/1998/Math/MathML";
const ALLOWED_MATH = new Set(("math mrow mi mn mo mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd"
  + " mstyle mpadded mphantom menclose mmultiscripts mprescripts none").split(" "));
const MATH_ATTRIBUTES = ("display displaystyle mathvariant stretchy fence separator accent accentunder movablelimits largeop symmetric"
  + " form columnalign rowalign notation scriptlevel width height depth lspace rspace minsize maxsize linethickness columnspacing rowspacing").split(" ");
const MATH_VALUE = /^[a-z0-9 .%-]{1,60}$/i;
const COLOUR = /^hl-[a-z]{1,2}[a-z0-9]?$/; // what labeling/highlighting.py marks code with
const OWN_DIRECTION = new Set("P LI H1 H2 H3 H4 H5 H6 BLOCKQUOTE UL OL TABLE TH TD".split(" ")); // each may be in another script
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;
const HEADING = /^H[1-6]$/;
const ROLES = { system: "role_system", user: "role_user", assistant: "role_assistant" };

/** The allowed elements and all the text of `html`, as a fragment. */
function safe(html) {
  const copy = document.createDocumentFragment();
  copyChildren(new DOMParser().parseFromString(html, "text/html").body, copy);
  return copy;
}

function copyChildren(from, to) {
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) to.append(node.data);
    else if (node.nodeType === Node.ELEMENT_NODE) to.append(copyKnown(node));
  }
}

function copyKnown(node) {
  if (node.namespaceURI === MATHML && ALLOWED_MATH.has(node.localName)) return copyMath(node);
  return ALLOWED.has(node.tagName) ? copyElement(node) : node.textContent;
}

function copyMath(node) {
  const copy = document.createElementNS(MATHML, node.localName);
  for (const name of MATH_ATTRIBUTES) {
    const value = node.getAttribute(name);
    if (value !== null && MATH_VALUE.test(value)) copy.setAttribute(name, value);
  }
  copyChildren(node, copy);
  return copy;
}

function copyElement(node) {
  const copy = document.createElement(HEADING.test(node.tagName) ? lowerHeading(node.tagName) : node.tagName);
  if (node.tagName === "A") addLink(copy, node.getAttribute("href") ?? "");
  if (node.tagName === "OL" && node.start !== 1) copy.start = node.start;
  if (node.tagName === "SPAN" && COLOUR.test(node.className)) copy.className = node.className;
  if (OWN_DIRECTION.has(node.tagName)) copy.dir = directionOf(node.textContent);
  if (node.tagName === "PRE") copy.dir = "ltr";
  if (node.tagName === "PRE") copy.tabIndex = 0; // it scrolls sideways, so the keyboard must reach it
  copyChildren(node, copy);
  return copy;
}

/** Of the first letter. `dir="auto"` would not do: a list does not look into items that have a direction of their own. */
function directionOf(text) {
  const letter = /\p{L}/u.exec(text);
  return letter && RIGHT_TO_LEFT.test(letter[0]) ? "rtl" : "ltr";
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
  if (text !== null && !text.trim()) return make("div", "text", make("p", "mut", words("answer_empty")));
  return make("div", "text", safe(html));
}

/** The messages of a prompt, the last one large; names of roles only where there is more than one message. */
function prompt(element, messages) {
  const last = messages.length - 1;
  fill(element, messages.map((message, index) => make("div", index === last ? "turn" : "turn old",
    last > 0 && make("span", "role", words(ROLES[message.role])), prose(message.html))));
}

/** One answer: a letter, the page's own things in the head, the text, and whatever stands below it. */
function card(response, index, { head = [], foot = [] } = {}) {
  const letter = LETTERS[index];
  const badge = make("span", { class: "let", "aria-hidden": "true" }, letter);
  const element = make("article", { class: "card answer", tabindex: "-1", "aria-label": words("answer", { letter }), "data-index": index },
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
  const forward = getComputedStyle(event.target).direction === "rtl" ? -1 : 1;
  const step = { ArrowRight: forward, ArrowLeft: -forward }[event.key];
  if (!step) return;
  event.preventDefault();
  const here = buttons.indexOf(document.activeElement);
  const next = buttons[(here + step + buttons.length) % buttons.length];
  next.focus();
  next.click();
}

/** Calls back once what was just drawn is on the screen: a message that is posted in a frame comes after it was painted. */
function painted(then) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); then(); };
    port2.postMessage(null);
  });
}

Object.assign(window.Plumbline, { cards: { LETTERS, safe, prose, prompt, card, radios, painted } });
})();
