/* Words: the strings of the page in the language that was chosen. Each language is a file of assets/languages, data only.

   words("submit_unranked", { n: 2 }) puts numbers in as the language writes them; an entry with plural forms
   ({one, few, other}) is chosen by `n`. English stands in for a string that a language does not have yet. */
(() => {
"use strict";
const { languages } = window.Plumbline;

const CHOSEN = "plumbline-language";
const ERRORS = { 0: "offline_now", 401: "error_person", 403: "error_person", 404: "error_gone" };
let language = "en";

const entry = (key) => languages[language].words[key] ?? languages.en.words[key];
const number = (n) => n.toLocaleString(language);

const words = (key, values = {}) => fillIn(choose(key, entry(key), values.n), values);

const fillIn = (form, values) => form.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? number(values[name]) : values[name]));

/** Ordinal forms for "ordinal", which is asked for places; counting forms for all others. */
function choose(key, found, n) {
  if (typeof found === "string") return found;
  const type = key === "ordinal" ? "ordinal" : "cardinal";
  return found[new Intl.PluralRules(language, { type }).select(n)] ?? found.other;
}

/** What the server says, by its code; a time in it is `seconds` among the values. */
function said({ code, values, sentence }) {
  const form = languages[language].server[code] ?? languages.en.server[code];
  return form === undefined ? sentence : fillIn(choose(code, form, values.n), { ...values, time: duration(values.seconds ?? 0) });
}

/** Why a request failed: in full where the server said it by a code or the page is English, else what kind of failure it was. */
function error({ said: known, status, message }) {
  if (known) return said(known);
  if (language === "en") return message;
  return words(ERRORS[status] ?? (status >= 500 ? "error_server" : "error_refused"));
}

/** An entry that is a list, in the language of the page and in English, which is what is stored. */
const list = (key) => entry(key).map((text, index) => ({ text, english: languages.en.words[key][index] }));

function unit(n, name) {
  return new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: 0 }).format(n);
}

function duration(seconds) {
  if (seconds < 90) return unit(Math.max(1, seconds), "second");
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? unit(minutes, "minute") : `${unit(Math.floor(minutes / 60), "hour")} ${unit(minutes % 60, "minute")}`;
}

/** "A, B and C". */
const and = (names) => new Intl.ListFormat(language).format(names);

function ago(iso) {
  const seconds = (Date.now() - new Date(iso)) / 1000, relative = new Intl.RelativeTimeFormat(language);
  if (seconds < 45) return words("just_now");
  if (seconds < 90 * 60) return relative.format(-Math.max(1, Math.round(seconds / 60)), "minute");
  if (seconds < 36 * 3600) return relative.format(-Math.round(seconds / 3600), "hour");
  return relative.format(-Math.round(seconds / 86400), "day");
}

/** The language asked for in the address, chosen here before, or wanted by the browser; English where there is none of these. */
function wanted() {
  const asked = [new URLSearchParams(location.search).get("lang"), localStorage.getItem(CHOSEN), ...navigator.languages];
  return asked.map((one) => one?.split("-")[0]).find((one) => one in languages) ?? "en";
}

/** Marks `element` as written in that language, so that it is read aloud and laid out accordingly. */
function use(element) {
  language = wanted();
  element.lang = language;
  element.dir = languages[language].direction;
}

function change(name) {
  localStorage.setItem(CHOSEN, name);
  const asked = new URLSearchParams(location.search);
  asked.delete("lang");
  location.search = asked;
}

Object.assign(words, { list, said, error, number, and, duration, ago, use, change, all: languages, current: () => language, forwards: () => (languages[language].direction === "rtl" ? -1 : 1) });
Object.assign(window.Plumbline, { words });
})();
