/* What every page of Plumbline shares: theme, top bar, fetch, and small makers of DOM.

   Text from models, people and files enters the page by textContent only: nothing here takes HTML.
   This script goes into <head>, so that the theme is set before anything is painted. */
(() => {
"use strict";

// Lucide 1.62 (ISC, vendor/lucide.LICENSE): the shapes of an icon, one path each, parted by "|".
const ICONS = {
  "arrow-down": "M12 5v14|m19 12-7 7-7-7",
  "arrow-left": "m12 19-7-7 7-7|M19 12H5",
  "arrow-right": "M5 12h14|m12 5 7 7-7 7",
  "arrow-up": "m5 12 7-7 7 7|M12 19V5",
  "book-open": "M12 5v16|M20.001 19A2 2 0 0022 17V5a2 2 0 00-1.999-2L16 3.002A5 5 0 0012 5a5 5 0 00-4-2H4a2 2 0 00-2 2v12a2 2 0 001.999 2H8a5 5 0 014 2 5 5 0 014-2z",
  check: "M20 6 9 17l-5-5",
  "chevron-down": "m6 9 6 6 6-6",
  "chevron-left": "m15 18-6-6 6-6",
  "chevron-right": "m9 18 6-6-6-6",
  "circle-help": "M2 12a10 10 0 1 0 20 0a10 10 0 1 0 -20 0|M9.09 9a3 3 0 0 1 5.83 1c0 2-3 3-3 3|M12 17h.01",
  clock: "M2 12a10 10 0 1 0 20 0a10 10 0 1 0 -20 0|M12 6v6l4 2",
  "columns-2": "M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1 -2 2h-14a2 2 0 0 1 -2 -2v-14a2 2 0 0 1 2 -2z|M12 3v18",
  copy: "M10 8h10a2 2 0 0 1 2 2v10a2 2 0 0 1 -2 2h-10a2 2 0 0 1 -2 -2v-10a2 2 0 0 1 2 -2z|M4 16c-1.1 0-2-.9-2-2V4c0-1.1.9-2 2-2h10c1.1 0 2 .9 2 2",
  "corner-down-left": "M20 4v7a4 4 0 0 1-4 4H4|m9 10-5 5 5 5",
  crown: "M11.562 3.266a.5.5 0 0 1 .876 0L15.39 8.87a1 1 0 0 0 1.516.294L21.183 5.5a.5.5 0 0 1 .798.519l-2.834 10.246a1 1 0 0 1-.956.734H5.81a1 1 0 0 1-.957-.734L2.02 6.02a.5.5 0 0 1 .798-.519l4.276 3.664a1 1 0 0 0 1.516-.294z|M5 21h14",
  database: "M3 5a9 3 0 1 0 18 0a9 3 0 1 0 -18 0|M3 5V19A9 3 0 0 0 21 19V5|M3 12A9 3 0 0 0 21 12",
  diff: "M12 3v14|M5 10h14|M5 21h14",
  download: "M12 15V3|M21 15v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4|m7 10 5 5 5-5",
  equal: "M5 9L19 9|M5 15L19 15",
  eye: "M2.062 12.348a1 1 0 0 1 0-.696 10.75 10.75 0 0 1 19.876 0 1 1 0 0 1 0 .696 10.75 10.75 0 0 1-19.876 0|M9 12a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
  "file-text": "M6 22a2 2 0 0 1-2-2V4a2 2 0 0 1 2-2h8a2.4 2.4 0 0 1 1.704.706l3.588 3.588A2.4 2.4 0 0 1 20 8v12a2 2 0 0 1-2 2z|M14 2v5a1 1 0 0 0 1 1h5|M10 9H8|M16 13H8|M16 17H8",
  flag: "M4 22V4a1 1 0 0 1 .4-.8A6 6 0 0 1 8 2c3 0 5 2 7.333 2q2 0 3.067-.8A1 1 0 0 1 20 4v10a1 1 0 0 1-.4.8A6 6 0 0 1 16 16c-3 0-5-2-8-2a6 6 0 0 0-4 1.528",
  "git-branch": "M15 6a9 9 0 0 0-9 9V3|M15 6a3 3 0 1 0 6 0a3 3 0 1 0 -6 0|M3 18a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
  "git-merge": "M15 18a3 3 0 1 0 6 0a3 3 0 1 0 -6 0|M3 6a3 3 0 1 0 6 0a3 3 0 1 0 -6 0|M6 21V9a9 9 0 0 0 9 9",
  info: "M2 12a10 10 0 1 0 20 0a10 10 0 1 0 -20 0|M12 16v-4|M12 8h.01",
  keyboard: "M10 8h.01|M12 12h.01|M14 8h.01|M16 12h.01|M18 8h.01|M6 8h.01|M7 16h10|M8 12h.01|M4 4h16a2 2 0 0 1 2 2v12a2 2 0 0 1 -2 2h-16a2 2 0 0 1 -2 -2v-12a2 2 0 0 1 2 -2z",
  link: "M10 13a5 5 0 0 0 7.54.54l3-3a5 5 0 0 0-7.07-7.07l-1.72 1.71|M14 11a5 5 0 0 0-7.54-.54l-3 3a5 5 0 0 0 7.07 7.07l1.71-1.71",
  lock: "M5 11h14a2 2 0 0 1 2 2v7a2 2 0 0 1 -2 2h-14a2 2 0 0 1 -2 -2v-7a2 2 0 0 1 2 -2z|M7 11V7a5 5 0 0 1 10 0v4",
  "message-square": "M22 17a2 2 0 0 1-2 2H6.828a2 2 0 0 0-1.414.586l-2.202 2.202A.71.71 0 0 1 2 21.286V5a2 2 0 0 1 2-2h16a2 2 0 0 1 2 2z",
  moon: "M20.985 12.486a9 9 0 1 1-9.473-9.472c.405-.022.617.46.402.803a6 6 0 0 0 8.268 8.268c.344-.215.825-.004.803.401",
  "octagon-x": "m15 9-6 6|M2.586 16.726A2 2 0 0 1 2 15.312V8.688a2 2 0 0 1 .586-1.414l4.688-4.688A2 2 0 0 1 8.688 2h6.624a2 2 0 0 1 1.414.586l4.688 4.688A2 2 0 0 1 22 8.688v6.624a2 2 0 0 1-.586 1.414l-4.688 4.688a2 2 0 0 1-1.414.586H8.688a2 2 0 0 1-1.414-.586z|m9 9 6 6",
  pause: "M15 3h3a1 1 0 0 1 1 1v16a1 1 0 0 1 -1 1h-3a1 1 0 0 1 -1 -1v-16a1 1 0 0 1 1 -1z|M6 3h3a1 1 0 0 1 1 1v16a1 1 0 0 1 -1 1h-3a1 1 0 0 1 -1 -1v-16a1 1 0 0 1 1 -1z",
  pencil: "M21.174 6.812a1 1 0 0 0-3.986-3.987L3.842 16.174a2 2 0 0 0-.5.83l-1.321 4.352a.5.5 0 0 0 .623.622l4.353-1.32a2 2 0 0 0 .83-.497z|m15 5 4 4",
  play: "M5 5a2 2 0 0 1 3.008-1.728l11.997 6.998a2 2 0 0 1 .003 3.458l-12 7A2 2 0 0 1 5 19z",
  plus: "M5 12h14|M12 5v14",
  power: "M12 2v10|M18.4 6.6a9 9 0 1 1-12.77.04",
  "rotate-ccw": "M3 12a9 9 0 1 0 9-9 9.75 9.75 0 0 0-6.74 2.74L3 8|M3 3v5h5",
  search: "m21 21-4.34-4.34|M3 11a8 8 0 1 0 16 0a8 8 0 1 0 -16 0",
  "skip-forward": "M21 4v16|M6.029 4.285A2 2 0 0 0 3 6v12a2 2 0 0 0 3.029 1.715l9.997-5.998a2 2 0 0 0 .003-3.432z",
  snowflake: "m10 20-1.25-2.5L6 18|M10 4 8.75 6.5 6 6|m14 20 1.25-2.5L18 18|m14 4 1.25 2.5L18 6|m17 21-3-6h-4|m17 3-3 6 1.5 3|M2 12h6.5L10 9|m20 10-1.5 2 1.5 2|M22 12h-6.5L14 15|m4 10 1.5 2L4 14|m7 21 3-6-1.5-3|m7 3 3 6h4",
  square: "M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1 -2 2h-14a2 2 0 0 1 -2 -2v-14a2 2 0 0 1 2 -2z",
  sun: "M8 12a4 4 0 1 0 8 0a4 4 0 1 0 -8 0|M12 2v2|M12 20v2|m4.93 4.93 1.41 1.41|m17.66 17.66 1.41 1.41|M2 12h2|M20 12h2|m6.34 17.66-1.41 1.41|m19.07 4.93-1.41 1.41",
  "thumbs-down": "M9 18.12 10 14H4.17a2 2 0 0 1-1.92-2.56l2.33-8A2 2 0 0 1 6.5 2H20a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-2.76a2 2 0 0 0-1.79 1.11L12 22a3.13 3.13 0 0 1-3-3.88Z|M17 14V2",
  "thumbs-up": "M15 5.88 14 10h5.83a2 2 0 0 1 1.92 2.56l-2.33 8A2 2 0 0 1 17.5 22H4a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2h2.76a2 2 0 0 0 1.79-1.11L12 2a3.13 3.13 0 0 1 3 3.88Z|M7 10v12",
  "trash-2": "M10 11v6|M14 11v6|M19 6v14a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V6|M3 6h18|M8 6V4a2 2 0 0 1 2-2h4a2 2 0 0 1 2 2v2",
  "triangle-alert": "m21.73 18-8-14a2 2 0 0 0-3.48 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3|M12 9v4|M12 17h.01",
  "undo-2": "M9 14 4 9l5-5|M4 9h10.5a5.5 5.5 0 0 1 5.5 5.5a5.5 5.5 0 0 1-5.5 5.5H11",
  upload: "M12 3v12|m17 8-5-5-5 5|M21 15v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4",
  user: "M19 21v-2a4 4 0 0 0-4-4H9a4 4 0 0 0-4 4v2|M8 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
  users: "M16 21v-2a4 4 0 0 0-4-4H6a4 4 0 0 0-4 4v2|M16 3.128a4 4 0 0 1 0 7.744|M22 21v-2a4 4 0 0 0-3-3.87|M5 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
  x: "M18 6 6 18|m6 6 12 12",
};

const PAGES = [
  { name: "Label", href: "/label", roles: ["labeler", "lead", "engineer"] },
  { name: "Compare", href: "/compare", roles: ["labeler", "lead", "engineer"] },
  { name: "Data", href: "/data", roles: ["lead", "engineer"] },
  { name: "Projects", href: "/projects", roles: ["lead", "engineer"] },
  { name: "Quality", href: "/quality", roles: ["lead", "engineer"] },
  { name: "Runs", href: "/runs", roles: ["engineer"] },
  { name: "Models", href: "/models", roles: ["engineer"] },
];

/* ---- making elements ---- */

/** make("p", "small mut", "text", child…) or make("a", {class: "btn", href: "/runs", onclick: f}, "text", child…) */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  if (typeof attributes === "string") attributes = { class: attributes };
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class") element.className = value;
  else if (name === "text") element.textContent = value;
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function svgEl(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function icon(name) {
  const shapes = (ICONS[name] ?? "").split("|").map((d) => svgEl("path", { d }));
  return svgEl("svg", { class: "i", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...shapes);
}

/** A button with an icon: button("square", "Stop", stop), button("play", "Start run", start, "btn go"). */
function button(iconName, text, onclick, cls = "btn") {
  return make("button", { class: cls, type: "button", onclick }, iconName && icon(iconName), text);
}

/** A state is a shape, a colour and a word: run (blue), ok, warn, bad, wait (hollow), "" (grey). */
const state = (kind, word) => make("span", `st ${kind}`, word);

const SAY_ICONS = { ok: "check", warn: "triangle-alert", bad: "octagon-x", acc: "info", "": "info" };

/** One sentence in a tinted box; `lead` is set in bold before it, `ways` are the ways out (buttons, links). */
function say(kind, sentence, { lead = "", ways = [] } = {}) {
  const role = kind === "bad" ? "alert" : "status";
  const words = make("p", "", lead && make("b", "", lead), lead && " ", sentence);
  return make("div", { class: `say ${kind}`, role }, icon(SAY_ICONS[kind]), words, ways.length > 0 && make("div", "ways", ways));
}

/** Dot and interval on a line: interval({low, value, high, from: 0, to: 1, mid: 0.5}). Say the numbers beside it in words. */
function interval({ low, value, high, from = 0, to = 1, mid = null }) {
  const at = (x) => (100 * (Math.min(Math.max(x, from), to) - from)) / (to - from);
  const put = (cls, left, width) => make("span", { class: cls, style: `left:${left}%` + (width === undefined ? "" : `;width:${width}%`) });
  return make("div", { class: "iv", "aria-hidden": "true" }, mid !== null && put("mid", at(mid)),
    put("rng", at(low), at(high) - at(low)), put("dot", at(value)));
}

/** Exchanges the children of `element` for these. */
const fill = (element, ...children) => element.replaceChildren(...children.flat(Infinity).filter(Boolean));

/* ---- words ---- */

const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const percent = (share) => `${Math.round(100 * share)} %`;

/** "68 % [59, 76]" from {value, low, high} in 0 to 1. */
const withInterval = ({ value, low, high }) => `${percent(value)} [${Math.round(100 * low)}, ${Math.round(100 * high)}]`;

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function ago(iso) {
  const seconds = (Date.now() - new Date(iso)) / 1000;
  if (seconds < 45) return "just now";
  return seconds < 12 * 3600 ? `${duration(seconds)} ago` : when(iso);
}

const clock = (date) => date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

function when(iso) {
  const date = new Date(iso), today = new Date();
  if (date.toDateString() === today.toDateString()) return `today, ${clock(date)}`;
  const year = date.getFullYear() === today.getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year });
}

/* ---- talking to the server ---- */

/** GET, or whatever options.method says; options.body is sent as JSON. Throws an Error with a sentence for the person. */
async function api(path, { method, body, ...rest } = {}) {
  const response = await fetch(path, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    ...rest,
  }).catch(() => { throw failure("Plumbline does not answer. Check that it is running, then try again.", 0); });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw failure(answer?.error ?? "Something went wrong on the server; its log says what. Try again.", response.status, answer?.said);
  return answer;
}

/** `status` is the HTTP status, 0 where the server was not reached; `said` is the sentence's code, where it has one. */
const failure = (sentence, status, said = null) => Object.assign(new Error(sentence), { status, said });

/** Calls `tick` every so often while `element` is on the page and the tab is visible, never twice at once. */
function every(seconds, element, tick) {
  let busy = false;
  const beat = async () => {
    if (!element.isConnected) return stop();
    if (busy || document.hidden) return;
    busy = true;
    try { await tick(); } finally { busy = false; }
  };
  const timer = setInterval(beat, 1000 * seconds);
  const stop = () => { clearInterval(timer); document.removeEventListener("visibilitychange", beat); };
  document.addEventListener("visibilitychange", beat);
  return stop;
}

/* ---- theme: a class on <html>, which every colour follows ---- */

const root = document.documentElement;
const isDark = () => root.classList.contains("dark");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const storedTheme = () => new URLSearchParams(location.search).get("theme") ?? localStorage.getItem("plumbline-theme");

function applyTheme() {
  const dark = (storedTheme() ?? (systemDark.matches ? "dark" : "light")) === "dark";
  if (dark === isDark() && root.dataset.theme) return;
  root.classList.toggle("dark", dark);
  root.dataset.theme = dark ? "dark" : "light";
  followTheme();
  window.dispatchEvent(new Event("plumbline:theme"));
}

function toggleTheme() {
  localStorage.setItem("plumbline-theme", isDark() ? "light" : "dark");
  applyTheme();
}

// Gradio sets `dark` on <body> by the system's wish, later and again; ours decides.
const followTheme = () => document.body && document.body.classList.contains("dark") !== isDark() && document.body.classList.toggle("dark", isDark());

/* ---- top bar ---- */

/** Draws the bar into `element`; `here` is a page's name. Done by itself on every page, as the first child of <body>. */
async function topBar(element, here = pageHere()) {
  const nav = make("nav", { class: "nav", "aria-label": "Pages" });
  const person = make("a", { class: "who", href: "/who" });
  const theme = make("button", { class: "tool", type: "button", "aria-label": "Switch between light and dark", onclick: toggleTheme });
  const paintTheme = () => fill(theme, icon(isDark() ? "sun" : "moon"));
  window.addEventListener("plumbline:theme", paintTheme);
  paintTheme();
  fill(element, make("a", { class: "brand", href: "/" }, "Plumbline"), nav, person, theme);
  const known = sessionStorage.getItem("plumbline-me"); // the bar stands before the server answers
  if (known) paintPerson(nav, person, JSON.parse(known), here);
  const me = await api("/api/me").catch(() => null);
  if (!me?.name) return; // nobody has said who they are: /who is asking
  sessionStorage.setItem("plumbline-me", JSON.stringify(me));
  if (JSON.stringify(me) !== known) paintPerson(nav, person, me, here);
}

function paintPerson(nav, person, me, here) {
  const pages = PAGES.filter((page) => page.roles.includes(me.role));
  fill(nav, pages.map((page) => make("a", { href: page.href, "aria-current": page.name === here && "page" }, page.name)));
  person.title = "Change who you are";
  fill(person, make("b", "", me.name), " ", make("span", "", me.role));
  nav.querySelector("[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
}

/** 128 random bits as a UUID; crypto.randomUUID is missing where the page is served over plain http to another machine. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const pageHere = () => PAGES.find((page) => location.pathname === page.href || location.pathname.startsWith(page.href + "/"))?.name;

function start() {
  followTheme();
  new MutationObserver(followTheme).observe(document.body, { attributeFilter: ["class"] });
  if (document.querySelector(".pl.top")) return;
  const bar = make("header", "pl top");
  document.body.prepend(bar);
  topBar(bar);
}

window.Plumbline = { make, svgEl, icon, button, state, say, interval, fill, count, percent, withInterval, duration, ago, when, clock,
  api, every, newKey, isDark, toggleTheme, topBar };
applyTheme();
systemDark.addEventListener("change", applyTheme);
if (document.body) start();
else document.addEventListener("DOMContentLoaded", start);
})();
