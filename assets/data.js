/* The data page: its head, the sources and the snapshots. The import form between them is Gradio's. */
(() => {
"use strict";
const { make, api, fill, count, when, state } = window.Plumbline;
const TYPES = { preference: "pairs", unpaired_preference: "thumbs", prompt_completion: "demonstrations", language_modeling: "documents", prompt_only: "prompts" };
const COUNTED = { language_modeling: "document", prompt_only: "prompt" }; // the others count judgments
const LEFT_OUT = {
  superseded: "changed later", held_out: "on held-out prompts", other_feedback: "of another kind", repeats: "asked twice of the same person",
  adjudicated: "settled by a lead", no_pair: "in which all answers tie",
  ties: "tied pairs", missing: "without text", identical: "between equal answers", duplicates: "said again", contradictions: "contradicted",
};
const number = (value) => value.toLocaleString("en");
const parts = {};

window.Plumbline.data = (root) => {
  parts[root.dataset.part] = root;
  if (root.dataset.part === "head") head(root);
  else refresh();
};

const said = window.Plumbline.said;
window.Plumbline.said = (root, value) => { // after an import the tables are other ones
  said(root, value);
  if (value && parts.tables) refresh();
};

function head(root) {
  const text = "Where every row came from, what you may do with it, and what was frozen to learn from.";
  fill(root, make("div", "head", make("div", {}, make("h1", {}, "Data"), make("p", "lede", text))));
  nameDropZone();
}

/** Gradio names its drop zone otherwise than it reads, so that whoever speaks what is read would not reach it. */
function nameDropZone() {
  const name = () => document.querySelector("#file .upload-container")?.removeAttribute("aria-label");
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true, attributeFilter: ["aria-label"] }); // it comes later
  name();
}

async function refresh() {
  const root = parts.tables;
  try {
    const found = await api("/api/data");
    fill(root, make("div", "tables", sources(found), snapshots(found)));
  } catch (error) {
    fill(root, window.Plumbline.say("bad", error.message));
  }
  root.dataset.ready = "yes";
}

function sources({ sources: rows, held_out_percent: percent }) {
  const named = new Set(rows.map((row) => row.source)).size;
  const all = (kind) => rows.filter((row) => row.kind === kind).reduce((sum, row) => sum + row.rows, 0); // judgments are on prompts
  const held = [count(named, "source"), count(all("Prompts"), "prompt"), count(all("Documents"), "document")].join(", ");
  const note = `${held}; ${percent} % are held out for ever, chosen by a fixed hash`;
  const body = rows.map((row) => tr(
    make("span", "b", row.source), row.kind, cell(number(row.rows), "n"), cell(number(row.held_out), "n"),
    confidential(row), row.licence === "Unknown" ? state("warn", "Unknown") : row.licence, when(row.first_at)));
  return card("Sources", note, table(["Source", "Kind", "Rows|n", "Held out|n", "Confidential", "Licence", "Since"], body,
    "Nothing is imported yet. A file with one prompt a line is enough to begin."));
}

/** How many of a source's prompts never leave for an endpoint outside, and a button that changes it for all of them. */
function confidential({ source, kind, rows, confidential: kept }) {
  if (kind !== "Prompts") return make("span", "mut", "–");
  const all = kept === rows, words = all ? "Never leave" : kept ? `${number(kept)} never leave` : "May leave";
  const name = all ? "Let them leave" : "Keep them here";
  const press = make("button", { class: "btn small nw", type: "button", "aria-label": `${name}: the prompts from ${source}`,
    onclick: () => mark(source, !all) }, name);
  return make("span", "row conf", all || kept ? make("b", "", words) : words, press);
}

async function mark(source, kept) {
  try {
    await api("/api/data/confidential", { body: { source, confidential: kept } });
    await refresh();
  } catch (error) {
    parts.tables.prepend(window.Plumbline.say("bad", error.message));
  }
}

function snapshots({ snapshots: rows }) {
  const note = "A snapshot is frozen: a run can always be traced to it, and repeated.";
  const body = rows.map((row) => tr(
    make("span", "b", row.name), cell(`${number(row.rows)} ${TYPES[row.dataset_type]}`, "n"),
    make("span", "mono", row.fingerprint.slice(0, 8)), left_out(row), when(row.created_at)));
  return card("Snapshots", note, table(["Snapshot", "Rows|n", "Fingerprint", "Left out, and why", "Frozen"], body,
    "None yet. A new run freezes one."));
}

function left_out({ counts, policy, dataset_type: type }) {
  const of = COUNTED[type] ?? "judgment";
  const inWords = COUNTED[type] ? { ...LEFT_OUT, held_out: "held out" } : LEFT_OUT;
  const words = Object.entries(inWords).filter(([name]) => counts[name]).map(([name, said]) => `${number(counts[name])} ${said}`);
  return make("span", { title: policy }, `of ${count(counts[`${of}s`], of)}: ${words.join(", ") || "nothing left out"}`);
}

const card = (title, note, content) =>
  make("section", { class: "card", "aria-label": title }, make("div", "ct", make("h2", {}, title), make("span", "mut small", note)), content);
const cell = (content, cls) => ({ content, cls });
const tr = (...cells) => make("tr", {}, cells.map((one) => make("td", one.cls || "", one.content ?? one)));

function table(heads, body, empty) {
  if (!body.length) return make("p", "mut", empty);
  const head = heads.map((text) => text.split("|")).map(([text, cls]) => make("th", { class: cls, scope: "col" }, text));
  const all = make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads[0].split("|")[0] }, all);
}
})();
