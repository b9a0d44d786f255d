/* The models page: how each version came to be, what is behind it, and whether a server answers as it. */
(() => {
"use strict";
const { make, svgEl, fill, icon, button, state, say, interval, percent, withInterval, count, when, api, every } = window.Plumbline;

const WORDS = { served: ["run", "Served"], starting: ["wait", "Starting"], stored: ["", "Stored"], problem: ["bad", "Problem"] };
const stateOf = (version) => state(...(WORDS[version.state] ?? ["", version.state]));
const madeBy = (version) => (!version.parent ? "Base model" : version.method ? `${version.method} on ${version.parent}` : `From ${version.parent}`);

window.Plumbline.models = async (root) => {
  root.classList.add("page");
  const page = new ModelsPage(root);
  await page.refresh();
  root.dataset.ready = "yes";
  // a version that is being loaded, or restarted after a problem, changes without anybody's doing
  every(2, root, () => page.versions.some((version) => version.state === "starting" || version.state === "problem") && page.refresh());
  document.addEventListener("visibilitychange", () => !document.hidden && page.refresh());
  every(2, root, () => page.measure());
  window.addEventListener("popstate", () => page.refresh());
};

class ModelsPage {
  constructor(root) {
    Object.assign(this, { root, versions: [], drawn: "", forms: new Map() });
    this.servers = serversCard();
    this.used = { all: {}, shown: make("dl", "kv") };
    this.notice = make("div", "notice");
    this.body = make("div", "stack");
    this.dialog = addDialog(() => this.refresh());
    this.lede = make("p", "lede");
    fill(root, make("div", "head", make("div", "", make("h1", "", "Models"), this.lede),
      make("div", "acts", button("plus", "Add a base model", () => this.dialog.showModal()))), this.notice, this.body, this.dialog);
  }

  async refresh() {
    try {
      this.versions = (await api("/api/models")).versions;
      this.draw();
    } catch (error) {
      fill(this.notice, say("bad", error.message));
    }
  }

  draw() {
    const asked = new URLSearchParams(location.search).get("version");
    const chosen = this.versions.find((version) => version.id === asked) ?? this.versions[0];
    const drawn = JSON.stringify([this.versions, chosen?.id]);
    fill(this.notice, asked && chosen && chosen.id !== asked && say("warn", `There is no version ${asked}. This is the newest.`));
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.dataset?.focus;
    this.lede.textContent = conclusion(this.versions);
    if (!chosen) fill(this.body, empty());
    else this.drawVersions(chosen);
    if (focused) this.body.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  /** The tree stays scrolled where it was; another choice brings its box into view. */
  drawVersions(chosen) {
    const before = this.body.querySelector(".tree .scroll")?.scrollLeft ?? 0;
    const tree = family(this.versions, chosen, (id) => this.choose(id)), scroller = tree.querySelector(".scroll");
    fill(this.body, make("div", "mods", make("div", "stack", tree, this.table(chosen), this.servers.card, chosen.kind === "reward_model" && this.scoring(chosen)), this.detail(chosen)));
    this.shownId = chosen.id;
    this.showUsed();
    scroller.scrollLeft = before;
    if (this.inView !== chosen.id) bringIntoView(scroller, tree.querySelector(".nd.sel"));
    this.inView = chosen.id;
  }

  /** Figures that change by the second: they are put into what is drawn, and nothing else is drawn anew. */
  async measure() {
    try {
      const { servers, used } = await api("/api/models/servers");
      this.used.all = used;
      this.servers.show(servers);
      this.showUsed();
    } catch { /* refresh says what is wrong */ }
  }

  showUsed() {
    const used = this.used.all[this.shownId];
    fill(this.used.shown, used?.requests ? usedFacts(used) : make("dd", "mut", "Nobody has asked it since its server was started."));
  }

  choose(id) {
    history.pushState(null, "", `${location.pathname}?version=${encodeURIComponent(id)}`);
    this.draw();
  }

  table(chosen) {
    const head = make("tr", "", make("th", "", "Version"), make("th", "", "Made by"), make("th", "n", "Judgments behind it"),
      make("th", "", "Beats its parent"), make("th", "", "State"), make("th", "", make("span", "sr", "Action")));
    return make("section", { class: "card", "aria-label": "Versions" },
      make("div", "ct", make("h2", "", "Versions"), make("span", "mut small", "Win rates are blind and against the parent.")),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of versions" },
        make("table", "tpad", make("thead", "", head), make("tbody", "", this.versions.map((version) => this.row(version, version === chosen))))));
  }

  row(version, isChosen) {
    const pick = (event) => { event.preventDefault(); this.choose(version.id); };
    return make("tr", { class: isChosen && "selrow", "aria-current": isChosen && "true" },
      make("td", "", make("a", { class: "b", href: `/models?version=${encodeURIComponent(version.id)}`, "data-focus": `row-${version.id}`, onclick: pick }, version.id)),
      make("td", "", madeBy(version)),
      version.snapshot?.judgments ? make("td", "n", version.snapshot.judgments.toLocaleString("en")) : make("td", "n mut", "none"),
      make("td", version.wins ? "num" : "num mut", version.wins ? withInterval(version.wins) : version.kind === "reward_model" ? "scores, does not answer" : version.parent ? "not compared yet" : ""),
      make("td", "", stateOf(version)),
      make("td", "n tight", this.loadButton(version, "row")));
  }

  /** The form outlives a redraw, and what was typed into it with it. */
  scoring(version) {
    if (!this.forms.has(version.id)) this.forms.set(version.id, scoreForm(version.id));
    const form = this.forms.get(version.id);
    form.follow(version);
    return form.card;
  }

  loadButton(version, where) {
    const [name, action, word] = version.served ? ["power", "unload", "Unload"] : ["play", "load", "Load"];
    const one = button(where === "row" ? null : name, word, () => this.serve(version, action, one), "btn sm");
    one.setAttribute("aria-label", `${word} ${version.id}`);
    one.dataset.focus = `${where}-serve-${version.id}`;
    return one;
  }

  async serve(version, action, one) {
    one.disabled = true;
    try {
      await api(`/api/models/${encodeURIComponent(version.id)}/${action}`, { method: "POST" });
      await this.refresh();
      this.body.querySelector(`[data-focus="${CSS.escape(one.dataset.focus)}"]`)?.focus();
    } catch (error) {
      one.disabled = false;
      fill(this.notice, say("bad", error.message));
    }
  }

  detail(version) {
    const whole = this.versions.find((one) => !one.adapter && one.base_path === version.base_path);
    const base = version.adapter ? `adapter on ${whole?.id ?? version.base}` : version.run ? "whole weights of its own" : `whole weights, ${version.base}`;
    return make("aside", { class: "card", "aria-label": `Version ${version.id}` },
      make("div", "row between", make("h2", "big", version.id), stateOf(version)),
      version.state === "problem" ? make("div", "gap", say("bad", version.sentence)) : make("p", "ink2 gap", version.sentence),
      version.note && make("p", "ink2 gap", version.note),
      make("div", "row", this.loadButton(version, "card"), version.parent && version.kind === "policy" && make("a", { class: "btn sm", href: `/compare/?${new URLSearchParams({ a: version.id, b: version.parent })}` }, "Compare blind")),
      version.kind === "reward_model" && [make("hr"), make("h3", "gap", "How often it is right"), trust(version)],
      make("hr"), make("h3", "gap", "Where it comes from"), lineage(version, base),
      version.served && version.kind === "policy" && [make("hr"), make("h3", "gap", "How fast it answers"), this.used.shown],
      make("hr"), facts(version, base));
  }
}

// ---- the servers: a light that means that tokens come while somebody waits for them ----

function serversCard() {
  const rows = make("tbody"), heads = ["Server", "State", "Tokens a second", "Answering", "Waiting", "Versions"];
  const head = make("tr", "", heads.map((name, column) => make("th", column > 1 && column < 5 ? "n" : "", name)));
  const card = make("section", { class: "card servers", "aria-label": "Servers", hidden: true },
    make("div", "ct", make("h2", "", "Servers"), make("span", "mut small", "Speed is that of the last 20 seconds.")),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of servers" }, make("table", "tpad", make("thead", "", head), rows)));
  let shown = "";
  return { card, show(servers) {
    card.hidden = !servers.length;
    if (shown === (shown = JSON.stringify(servers))) return;
    fill(rows, servers.map(serverRows));
  } };
}

function serverRows(server) {
  const row = make("tr", "", make("td", "", make("b", "", server.base), make("span", "sub", server.engine)), make("td", "", state(server.light, server.word)),
    make("td", "n", Math.round(server.tokens_per_second).toLocaleString("en")), make("td", "n", server.running.toLocaleString("en")), make("td", "n", server.waiting.toLocaleString("en")),
    make("td", "", server.versions.join(", ")));
  return server.sentence ? [row, make("tr", "said", make("td", { colspan: 6 }, server.sentence))] : [row];
}

const usedFacts = (used) => [["Speed", `${Math.round(used.tokens_per_second).toLocaleString("en")} tokens a second, while somebody waits`],
  ["Latency", `${used.seconds_a_request.toFixed(used.seconds_a_request < 10 ? 1 : 0)} s a request, the median`],
  ["Asked", `${count(used.requests, "time")}, ${used.tokens.toLocaleString("en")} tokens given${used.in_flight ? `; ${used.in_flight} being answered` : ""}`]]
  .map(([name, value]) => [make("dt", "", name), make("dd", "num", value)]);

// ---- what is behind a version ----

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

function conclusion(versions) {
  if (!versions.length) return "A base model is where every line begins.";
  const oldestFirst = [...versions].reverse(), named = (test) => oldestFirst.filter(test).map((version) => version.id);
  const served = named((version) => version.state === "served"), starting = named((version) => version.state === "starting"), broken = named((version) => version.state === "problem");
  const are = (names) => (names.length > NAMED ? `${names.length} are` : `${list(names)} ${names.length === 1 ? "is" : "are"}`);
  const answering = [served.length && `${are(served)} served`, starting.length && `${are(starting)} starting`].filter(Boolean).join(", ")
    || "None is served, so nobody can label or compare";
  const trouble = broken.length ? `; ${list(broken)} ${broken.length === 1 ? "has" : "have"} a problem` : "";
  return `${count(versions.length, "version")}, from the base to the newest. ${answering}${trouble}.`;
}

const NAMED = 4; // versions; of more, how many there are says more

const list = (words) => new Intl.ListFormat("en").format(words);

const empty = () => make("div", "card empty", make("h2", "", "No models yet"), make("p", "", "Add a base model: a folder on this machine, or a Hugging Face id that was downloaded before."));

// ---- the family: the base at the left, each version to the right of its parent ----

const BOX = { width: 196, height: 62, right: 312, down: 84, letters: 20 }; // between two boxes "Reward model" has room

function family(versions, chosen, choose) {
  const placed = place(versions), line = new Set(ancestors(versions, chosen));
  const width = Math.max(...placed.map((one) => one.x)) + BOX.width + 2, height = Math.max(...placed.map((one) => one.y)) + BOX.height + 2;
  const at = new Map(placed.map((one) => [one.version.id, one]));
  const children = placed.filter((one) => at.has(one.version.parent)).sort((a, b) => line.has(a.version.id) - line.has(b.version.id)); // blue last, on top
  const edges = children.map((one) => edge(at.get(one.version.parent), one, line.has(one.version.id)));
  const nodes = placed.map((one) => node(one, one.version === chosen, () => choose(one.version.id)));
  const drawing = svgEl("svg", { width, height, viewBox: `-1 -1 ${width} ${height}`, role: "group", "aria-label": "Family tree, oldest at the left" }, ...edges, ...nodes);
  return make("section", { class: "card tree", "aria-label": "Family" },
    make("div", "ct", make("h2", "", "Family"), make("span", "mut small", `Blue line: how ${chosen.id} came to be`)),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Family tree" }, drawing));
}

/** The box of the chosen version, with what leads to it where there is room. */
function bringIntoView(scroller, box) {
  const { left, right } = box.querySelector("rect").getBoundingClientRect(), seen = scroller.getBoundingClientRect();
  if (right > seen.right) scroller.scrollLeft += right - seen.right + 2;
  else if (left < seen.left) scroller.scrollLeft -= seen.left - left + 2;
}

/** Columns by generation; the first child stays on its parent's row, each further one takes a row of its own. */
function place(versions) {
  const placed = [], known = new Set(versions.map((version) => version.id)), oldestFirst = [...versions].reverse();
  let rows = 0;
  const put = (version, column, row) => {
    placed.push({ version, x: column * BOX.right, y: row * BOX.down });
    rows = Math.max(rows, row + 1);
    oldestFirst.filter((child) => child.parent === version.id).forEach((child, index) => put(child, column + 1, index ? rows : row));
  };
  for (const root of oldestFirst.filter((version) => !known.has(version.parent))) put(root, 0, rows);
  return placed;
}

function ancestors(versions, version) {
  const parent = versions.find((one) => one.id === version.parent);
  return parent ? [version.id, ...ancestors(versions, parent)] : [version.id];
}

function edge(from, to, isHot) {
  const x = from.x + BOX.width, y = from.y + BOX.height / 2, end = to.y + BOX.height / 2, middle = x + 14;
  const d = y === end ? `M${x} ${y}H${to.x}` : `M${x} ${y}H${middle}V${end - 10}Q${middle} ${end} ${middle + 10} ${end}H${to.x}`;
  return svgEl("g", {}, svgEl("path", { class: isHot ? "e hot" : "e", d }),
    svgEl("text", { class: "el", x: y === end ? (x + to.x) / 2 : (middle + to.x) / 2 + 6, y: end - 7 }, to.version.method ?? ""));
}

function node({ version, x, y }, isChosen, choose) {
  const [, word] = WORDS[version.state] ?? ["", version.state];
  const label = version.id.length > BOX.letters ? version.id.slice(0, BOX.letters - 1) + "…" : version.id;
  const group = svgEl("g", { class: `nd ${version.state}${isChosen ? " sel" : ""}`, tabindex: "0", role: "button", "aria-pressed": String(isChosen), "data-focus": `node-${version.id}` },
    svgEl("title", {}, `${version.id}, ${word.toLowerCase()}`),
    svgEl("rect", { x, y, width: BOX.width, height: BOX.height, rx: 12 }), svgEl("text", { class: "t", x: x + 14, y: y + 26 }, label + " "),
    svgEl("circle", { cx: x + 18, cy: y + 43, r: 4 }), svgEl("text", { class: "s", x: x + 28, y: y + 47.5 }, word));
  group.addEventListener("click", choose);
  group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
  return group;
}

// ---- a reward model: how often it is right, and what it says of an answer ----

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function trust({ evaluation }) {
  if (!evaluation) return make("p", "ink2", "Its run held no pairs out, so nobody knows. Train one that does before you rely on it.");
  const [low, high] = evaluation.interval;
  const right = withInterval({ value: evaluation.accuracy, low, high });
  return make("div", "stack",
    make("p", "ink2", make("b", "", right), ` of ${count(evaluation.pairs, "pair")} it had not seen: the answer that people preferred got the higher score.`),
    make("figure", "", calibration(evaluation.calibration),
      make("figcaption", "help", `Dots on the line: it is as sure as it should be. On average it is ${(100 * evaluation.ece).toFixed(0)} points off; the figure at a dot is how many pairs it stands for.`)));
}

const FIGURE = { width: 340, height: 190, left: 44, right: 16, top: 12, bottom: 40 };

/** How often it was right (up) over how sure it was (right), in words for those who do not see it. */
function calibration(bins) {
  const { width, height, left, right, top, bottom } = FIGURE;
  const x = (chance) => left + ((chance - 0.5) / 0.5) * (width - left - right), y = (share) => height - bottom - share * (height - top - bottom);
  const words = bins.map((bin) => `${percent(bin.predicted)} sure, right in ${percent(bin.observed)} of ${bin.n}`).join("; ");
  const grid = [0, 0.5, 1].map((share) => [svgEl("line", { class: "g", x1: left, x2: width - right, y1: y(share), y2: y(share) }), svgEl("text", { class: "ax", x: left - 7, y: y(share) + 4, "text-anchor": "end" }, percent(share))]);
  const below = [0.5, 0.75, 1].map((chance) => svgEl("text", { class: "ax", x: x(chance), y: height - bottom + 17, "text-anchor": chance === 1 ? "end" : "middle" }, percent(chance)));
  const dots = bins.map((bin) => [svgEl("circle", { cx: x(bin.predicted), cy: y(bin.observed), r: 5 }), svgEl("text", { class: "n", x: x(bin.predicted), y: y(bin.observed) + (bin.observed > 0.9 || bin.observed < bin.predicted ? 20 : -10), "text-anchor": bin.predicted > 0.95 ? "end" : "middle" }, String(bin.n))]);
  return svgEl("svg", { class: "calib", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Calibration: ${words}.` },
    ...grid.flat(), svgEl("line", { class: "diag", x1: x(0.5), y1: y(0.5), x2: x(1), y2: y(1) }), ...below,
    svgEl("text", { class: "ax", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "how sure it was; upwards, how often it was right"), ...dots.flat());
}

const MOST_ANSWERS = 4;

function scoreForm(id) {
  const prompt = make("textarea", { id: `score-prompt-${id}`, rows: 2, required: true, "data-focus": `score-prompt-${id}` });
  const answers = make("div", "stack"), said = make("div", { class: "stack", "aria-live": "polite" });
  const more = button("plus", "Another answer", () => { add(); answers.lastElementChild.querySelector("textarea").focus(); }, "btn sm");
  const go = make("button", { class: "btn go", type: "submit", "data-focus": `score-go-${id}` }, "Score");
  const why = make("p", "mut small");
  const fields = () => [...answers.querySelectorAll("textarea")];

  function add() {
    const number = answers.children.length + 1, name = `score-answer-${id}-${number}`;
    answers.append(make("div", "f", make("div", "row between", make("label", { for: name }, `Answer ${number}`), make("span", "verdict")),
      make("textarea", { id: name, rows: 2, "data-focus": name })));
    more.hidden = number >= MOST_ANSWERS;
  }

  async function score(event) {
    event.preventDefault();
    const filled = fields().filter((field) => field.value.trim());
    forget();
    if (!filled.length) return fill(said, say("warn", "Write an answer first."));
    go.disabled = true;
    try {
      const { scores } = await api(`/api/models/${encodeURIComponent(id)}/score`, { body: { prompt: prompt.value, answers: filled.map((field) => field.value) } });
      show(filled, scores);
    } catch (error) {
      fill(said, say("bad", error.message));
    }
    go.disabled = false;
  }

  function show(filled, scores) {
    const best = Math.max(...scores);
    filled.forEach((field, index) => fill(verdictOf(field), scores.length > 1 && scores[index] === best && make("span", "tag ok", icon("check"), "Best"), make("span", "num b", signed(scores[index]))));
    fill(said, say("", inWords(filled.map((field) => fields().indexOf(field) + 1), scores, card.evaluation)));
  }

  const verdictOf = (field) => field.closest(".f").querySelector(".verdict");
  const forget = () => { fill(said); fields().forEach((field) => fill(verdictOf(field))); };

  const form = make("form", { class: "stack", onsubmit: score },
    make("div", "f", make("label", { for: `score-prompt-${id}` }, "Prompt"), prompt), answers, make("div", "row", more), said, make("div", "row between", why, go));
  form.addEventListener("input", forget); // a score of another text than the one shown would be a lie
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); } });
  const card = make("section", { class: "card scoring", "aria-label": "Score an answer" }, make("div", "ct", make("h2", "", "Score an answer"), make("span", "mut small", `What ${id} makes of it`)), form);
  add();
  add();
  return { card, follow(version) {
    card.evaluation = version.evaluation;
    go.disabled = version.state !== "served";
    why.textContent = version.state === "served" ? "One to four answers to the same prompt. Ctrl + Enter scores them." : version.served ? "It scores once its model server is up." : "Load it first; then it can score.";
  } };
}

const signed = (score) => `${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;

/** What the scores mean. Only differences do: their sigmoid is the chance that people prefer the one to the other. */
function inWords(numbers, scores, evaluation) {
  const order = scores.map((score, index) => ({ score, number: numbers[index] })).sort((a, b) => b.score - a.score);
  const [best, ...others] = order;
  if (!others.length) {
    const place = evaluation && (best.score - evaluation.mean) / evaluation.std;
    const beside = evaluation ? ` It is ${Math.abs(place).toFixed(1)} standard deviations ${place < 0 ? "below" : "above"} the average of the answers it was measured on.` : "";
    return `One score alone says little; add an answer to compare it with.${beside}`;
  }
  const chances = others.map((other) => `to answer ${other.number} in ${surely(sigmoid(best.score - other.score))} cases of 100`);
  return `People are expected to prefer answer ${best.number} ${list(chances)}.`;
}

const surely = (chance) => (chance > 0.995 ? "more than 99" : String(Math.round(100 * chance)));

// ---- adding a base model ----

function addDialog(added) {
  const place = make("input", { id: "base-place", required: true, autofocus: true, autocomplete: "off", spellcheck: "false", placeholder: "/models/my-base or owner/name", "aria-describedby": "base-help" });
  const note = make("input", { id: "base-note", autocomplete: "off" }), problem = make("div");
  const add = make("button", { class: "btn go", type: "submit" }, "Add");
  const form = make("form", { class: "stack", method: "dialog" },
    make("div", "row between", make("h2", { id: "base-title" }, "Add a base model"), make("button", { class: "tool", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("x"))),
    make("div", "f", make("label", { for: "base-place" }, "Folder or Hugging Face id"), place, make("p", { class: "help", id: "base-help" }, "A folder with config.json, *.safetensors and a tokenizer, or an id that was downloaded before. Nothing is downloaded now.")),
    make("div", "f", make("label", { for: "base-note" }, "Note"), note, make("p", "help", "What the next person should know, such as its licence.")),
    problem, make("div", "row between", make("span", "mut small", "It is served at once."), add));
  const dialog = make("dialog", { "aria-labelledby": "base-title", onclose: () => { form.reset(); fill(problem); } }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    add.disabled = true;
    try {
      await api("/api/models", { body: { place: place.value, note: note.value } });
      dialog.close();
      await added();
    } catch (error) {
      fill(problem, say("bad", error.message));
    }
    add.disabled = false;
  });
  return dialog;
}
})();
