/* What is behind a model version: judgments, snapshot, run, and what it is made of. */
(() => {
"use strict";
const { make, icon, interval, withInterval, count, when } = window.Plumbline;

function lineage(version, base) {
  const made = make("li", "", make("b", "", version.id), make("span", "sub", base, ", fingerprint ", mono(shortPrint(version.fingerprint))));
  if (!version.run) return make("ol", "lin", make("li", "", make("b", "", version.parent ? `From ${version.parent}` : "Added as a base model"), make("span", "sub", when(version.created_at))), made);
  const { snapshot, run } = version;
  const changed = run.changed.map((one) => `${one.title[0].toLowerCase()}${one.title.slice(1)}: ${one.value}`).join("; ");
  return make("ol", "lin",
    snapshot?.judgments > 0 && make("li", "", make("a", { href: "/data" }, `${count(snapshot.judgments, "judgment")} by ${count(snapshot.people, "person", "people")}`), make("span", "sub", leftOut(snapshot))),
    snapshot && make("li", "", make("b", "", snapshot.name), make("span", "sub", `${snapshot.rows.toLocaleString("en")} ${snapshot.rows_are}, fingerprint `, mono(shortPrint(snapshot.fingerprint)))),
    make("li", "", make("a", { href: `/runs?run=${encodeURIComponent(run.id)}` }, `Run ${run.id}`), make("span", "sub", `${version.method} on ${version.parent}${changed ? `; ${changed}` : ", all settings at their defaults"}`)),
    made);
}

function leftOut({ counts }) {
  const said = [["ties", "tie", "ties"], ["contradictions", "contradiction", "contradictions"], ["held_out", "on held-out prompts, left out", "on held-out prompts, left out"]]
    .filter(([name]) => counts[name]).map(([name, one, many]) => count(counts[name], one, many));
  return said.length ? said.join("; ") : "nothing left out";
}

function facts(version, base) {
  const wins = version.wins && make("div", "", `${withInterval(version.wins)} against ${version.parent}, of ${count(version.wins.judgments, "judgment")}`,
    interval({ ...version.wins, from: 0, to: 1, mid: 0.5 }));
  const pair = (name, value) => value && [make("dt", "", name), make("dd", "num", value)];
  return make("dl", "kv", pair("Verdict", wins), pair("Outcome", version.run?.message), pair("Made", when(version.created_at)), pair("Kind", version.kind === "policy" ? "Answers prompts" : "Scores answers"),
    pair("Context", `${version.context_length.toLocaleString("en")} tokens`), pair("Base", mono(version.base_path)), pair("Fingerprint", mono(plainPrint(version.fingerprint))),
    pair("Template", make("details", "", make("summary", "", icon("chevron-right"), "Show"), make("pre", { class: "log", tabindex: "0" }, version.template))));
}

const mono = (text) => make("span", "mono", text);
const plainPrint = (fingerprint) => fingerprint.replace(/^sha256:/, "");
const shortPrint = (fingerprint) => plainPrint(fingerprint).slice(0, 12);

Object.assign(window.Plumbline, { lineage, facts });
})();
