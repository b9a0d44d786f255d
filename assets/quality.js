/* The quality page: can these judgments be trusted, by whom are they, and what people split on.

   The numbers and sentences come from labeling/quality.py; this draws them. Every number stands with its interval and n. */
(() => {
"use strict";
const { make, fill, icon, button, state, say, interval, percent, count, api, settling, KNOWN_ANSWERS } = window.Plumbline;

const FIRST_CONFLICTS = 6;
const NO_CONFLICTS = "A prompt appears here where people differ on more than a third of what they chose between, and where somebody flags it or skips it for a reason.";
const STATES = { ok: "Steady", warn: "Look closer", wait: "Too early" };
const two = (value) => value.toFixed(2);
const range = (low, high, words) => `[${words(low)}, ${words(high)}]`;
const plain = (share) => String(Math.round(100 * share));

window.Plumbline.quality = async (root) => {
  root.classList.add("page");
  const page = new QualityPage(root);
  await page.refresh();
  root.dataset.ready = "yes";
  window.addEventListener("popstate", () => page.refresh());
};

class QualityPage {
  constructor(root) {
    this.root = root;
    this.unfolded = false;
    this.lede = make("p", "lede", "Reading what was judged …");
    this.picker = make("select", { "aria-label": "Project", onchange: () => this.choose(this.picker.value) });
    this.known = button("plus", "Add a known answer", () => this.settle(""));
    this.picker.hidden = this.known.hidden = true; // until it is known what there is
    this.notice = make("div", { class: "notice", role: "status" });
    this.body = make("div", "stack");
    this.dialog = settling((answer) => this.settled(answer));
    fill(root, make("div", "head", make("div", "", make("h1", "", "Quality"), this.lede),
      make("div", "acts", this.known, this.picker)), this.notice, this.body, this.dialog.element);
  }

  async refresh() {
    const asked = new URLSearchParams(location.search).get("project") ?? "";
    try {
      const { projects, project, report } = await api(`/api/quality?${new URLSearchParams({ project: asked })}`);
      this.project = project;
      this.lede.textContent = "";
      this.showPicker(projects);
      this.picker.hidden = this.known.hidden = !report;
      report ? this.draw(report) : fill(this.body, nothing());
    } catch (error) {
      this.lede.textContent = "";
      fill(this.notice, say("bad", error.message));
    }
  }

  showPicker(projects) {
    fill(this.picker, projects.map(({ id, name }) => make("option", { value: id }, name)));
    this.picker.value = this.project ?? "";
  }

  choose(project) {
    history.pushState(null, "", `${location.pathname}?${new URLSearchParams({ project })}`);
    fill(this.notice);
    this.refresh();
  }

  draw(report) {
    this.report = report;
    this.known.hidden = !report.settles;
    this.known.lastChild.textContent = report.type === "edit" ? "Write an ideal answer" : "Add a known answer";
    this.lede.textContent = report.conclusion;
    fill(this.body, make("div", "tri", progressCard(report.progress), alphaCard(report), alikeCard(report)),
      make("div", "qual", peopleCard(report), this.conflicts(report)));
  }

  /** What people differ on, flagged or skipped: for the lead to settle, but in a comparison only to look at. */
  conflicts({ conflicts, more_conflicts: more, settled, settles }) {
    const shown = this.unfolded ? conflicts : conflicts.slice(0, FIRST_CONFLICTS), hidden = conflicts.length - shown.length;
    const task = settles ? "to settle" : "to look at";
    const heading = conflicts.length ? `${count(conflicts.length + more, "prompt")} ${task}` : `Nothing ${task}`;
    const rest = settles ? `${more} more come when these are settled.` : `${more} more are not listed.`;
    return make("section", { class: "card", "aria-label": "Conflicts and flags" },
      make("div", "ct", make("h2", { tabindex: "-1" }, heading), settled > 0 && make("span", "mut small", `${settled} settled`)),
      !settles && make("p", "mut small", "In a comparison nobody's vote stands above the others', so nothing is settled here."),
      conflicts.length ? make("ul", "conf", shown.map((one) => this.conflict(one))) : make("p", "mut", NO_CONFLICTS),
      hidden > 0 && button("chevron-down", `${hidden} more`, () => { this.unfolded = true; this.draw(this.report); }, "btn sm ghost"),
      more > 0 && this.unfolded && make("p", "small mut", rest));
  }

  conflict({ prompt, text, said, why }) {
    return make("li", "", make("p", "q", text), make("div", "who", make("span", "num", said),
      this.report.settles && make("button", { class: "btn sm", type: "button", "aria-label": `Settle: ${text}`, onclick: () => this.settle(prompt) }, "Settle")),
    why && make("p", "why mut", why));
  }

  async settle(prompt) {
    fill(this.notice);
    try {
      const item = await api(`/api/quality/item?${new URLSearchParams({ project: this.project, prompt })}`);
      this.dialog.open(this.project, item, this.report.gold_share);
    } catch (error) {
      fill(this.notice, say("warn", error.message));
    }
  }

  async settled({ gold }) {
    await this.refresh();
    const kept = "Your answer is kept apart from the labelers'", among = "comes up unannounced among the items of people who have not seen it";
    const when = this.report.gold_share > 0 ? "" : ` once “${KNOWN_ANSWERS}” on the projects page is above 0 %`;
    fill(this.notice, say("ok", gold ? `${kept}, and ${among}${when}.` : `${kept}.`, { lead: "Settled." }));
    this.body.querySelector("[aria-label^=Conflicts] h2").focus();
  }
}

const nothing = () => make("div", "card empty", make("h2", "", "There is nothing to look at yet"),
  make("p", "", "Make a project on the projects page. Once people judge, what their judgments are worth appears here."));

// ---- the three cards ----

function progressCard({ done, wanted, unit, sentence }) {
  const share = wanted ? Math.round((100 * done) / wanted) : 0;
  const bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Judgments", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": share },
    make("i", { style: `width:${share}%` }));
  return card("Progress", big(done.toLocaleString("en"), `of ${count(wanted, unit)}`), bar, make("p", "small mut num", sentence));
}

function alphaCard({ alpha, usable, tau }) {
  const title = "Agreement beyond chance (alpha)";
  if (!alpha) return card(title, unknown("Nobody's judgments can be compared yet."));
  return card(title, big(two(alpha.value), `${range(alpha.low, alpha.high, two)} of ${count(alpha.n, "answer")}`),
    drawn({ ...alpha, low: Math.max(0, alpha.low), from: 0, to: 1, mid: usable }, `${two(alpha.value)}, interval ${two(alpha.low)} to ${two(alpha.high)}; usable from ${two(usable)}`,
      [[0, "chance, 0"], [usable, `usable from ${two(usable)}`], [1, "1"]]),
    tau && make("p", "small mut num", `Whole rankings, Kendall's tau-b: ${two(tau.value)} ${range(tau.low, tau.high, two)} of ${count(tau.n, "pair")} of people.`));
}

function alikeCard({ type, raw, papers, self, gold, known }) {
  const title = type === "thumbs" ? "Two people give the same thumb" : "Two people choose the same answer";
  if (!raw) return card(title, unknown("No two people have chosen between the same answers yet."), others(self, gold, known));
  const [low, high] = papers;
  const band = { low, high };
  return card(title, big(percent(raw.value), `${range(raw.low, raw.high, plain)} of ${count(raw.n, "pair")}`),
    drawn({ ...raw, from: 0.5, to: 1, band }, `${percent(raw.value)}; papers report ${plain(low)} to ${percent(high)}`,
      [[0.5, "50 %"], [(low + high) / 2, `papers: ${plain(low)} to ${plain(high)} %`], [1, "100 %"]]),
    others(self, gold, known));
}

/** How far people agree with themselves and with what is known. */
function others(self, gold, known) {
  const said = [self && `The same again: ${share(self)}.`, gold && `As in ${count(known, "known answer")}: ${share(gold)}.`].filter(Boolean);
  return said.length > 0 && make("p", "small mut num", said.join(" "));
}

const share = ({ value, low, high, n }) => `${percent(value)} ${range(low, high, plain)} of ${n.toLocaleString("en")}`;
const unknown = (sentence) => make("p", "mut", sentence);
const big = (value, rest) => make("p", "big num", value, " ", make("small", "", rest));
const card = (title, ...content) => make("section", { class: "card", "aria-label": title }, make("h2", "h3", title), content);

/** A dot with its interval on a scale, whose marks are named below; what it says is said in words too. */
function drawn({ band, from, to, ...found }, words, marks) {
  const at = (x) => (100 * (x - from)) / (to - from), line = interval({ ...found, from, to });
  if (band) line.prepend(make("span", { class: "band", style: `left:${at(band.low)}%;width:${at(band.high) - at(band.low)}%` }));
  const names = marks.map(([x, name]) => make("span", { class: x === from ? "l" : x === to ? "r" : "", style: `left:${at(x)}%` }, name));
  return make("div", { role: "img", "aria-label": words }, line, make("div", { class: "ivx", "aria-hidden": "true" }, names));
}

// ---- person by person ----

const COLUMNS = [
  ["Judgments", "n"], ["Seconds each", "n"], ["With others", "n"], ["Gold right", "n"], ["Self-consistent", "n"],
  ["Chooses the first shown", ""], ["Chooses the longer", ""], ["Reading", ""],
];

function peopleCard({ people, advice }) {
  const heads = [["Person", ""], ...COLUMNS].map(([name, cls]) => make("th", { class: cls, scope: "col" }, name));
  const legend = "Gold: items with a known answer. Self: the same item again, unannounced. In brackets the 95 % interval, and of how many choices.";
  return make("section", { class: "card", "aria-label": "People" },
    make("div", "ct", make("h2", "", "Person by person"), make("span", "mut small", legend)),
    people.length === 0 ? make("p", "mut", "Nobody has judged anything here yet.")
      : make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Person by person" },
        make("table", "", make("thead", "", make("tr", "", heads)), make("tbody", "", people.map(personRow)))),
    advice.map(({ name, sentence }) => say("warn", sentence, { lead: `${name}: have a word.` })));
}

function personRow(person) {
  const odd = new Set(person.concerns.map(({ column }) => column));
  const cell = (name, few) => shareCell(person[name], odd.has(name), few);
  return make("tr", "", make("th", { scope: "row", class: "b" }, person.name, flags(person.flags)), make("td", "n num", person.judgments.toLocaleString("en")),
    secondsCell(person, odd.has("seconds")), cell("others", "nobody yet"), cell("gold", "no gold yet"), cell("self", "none again yet"),
    placeCell(person.first, odd.has("first")), placeCell(person.longer, odd.has("longer")),
    make("td", "", state(person.state, STATES[person.state])));
}

function secondsCell({ seconds, reading }, isOdd) {
  if (seconds === null) return make("td", "n mut", "not timed");
  return make("td", `n num ${isOdd ? "odd" : ""}`, String(Math.round(seconds)), make("span", "sub", `${percent(reading)} of reading`));
}

function shareCell(found, isOdd, none) {
  if (!found) return make("td", "n mut", none);
  return make("td", `n num ${isOdd ? "odd" : ""}`, percent(found.value), make("span", "sub", `${range(found.low, found.high, plain)} of ${found.n}`));
}

function placeCell(found, isOdd) {
  if (!found) return make("td", "mut", "none yet");
  const at = Math.min(Math.max(found.value, 0), 1) * 100;
  return make("td", `num ${isOdd ? "odd" : ""}`, make("span", "pos", make("span", "", percent(found.value)), make("span", { class: "mini", "aria-hidden": "true" }, make("i", { style: `left:${at}%` }))),
    make("span", "sub", `${range(found.low, found.high, plain)} of ${found.n}`));
}

const FLAGS = { too_fast: "too fast to be read", late: "late", unsafe: "unsafe", personal_data: "personal data", for_the_lead: "for the lead", both_bad: "both bad" };

function flags(found) {
  const said = Object.entries(FLAGS).filter(([name]) => found[name]).map(([name, words]) => `${found[name]} ${words}`);
  return said.length > 0 && make("span", "sub", icon("flag"), said.join(", "));
}
})();
