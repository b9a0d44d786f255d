/* The runs page: all runs at the left, one at the right.

   Everything shown is asked of the server, so a refresh, a closed tab or a restarted app loses nothing. It is asked again
   every second while a run is under way and the tab is visible; of the points only those that are new. Which run is
   shown, and which others are laid under its curves, is in the address. */
(() => {
"use strict";
const { make, fill, icon, button, state, say, count, duration, when, clock, api, every } = window.Plumbline;

const WORDS = {
  training: ["run", "Training"], waiting: ["wait", "Waiting"], succeeded: ["ok", "Succeeded"],
  stopped: ["warn", "Stopped"], failed: ["bad", "Failed"], killed: ["bad", "Ended from outside"],
};
const OUTCOMES = { succeeded: ["ok", "Succeeded."], stopped: ["warn", ""], failed: ["bad", "Failed."], killed: ["bad", "Ended from outside."] };
const isLive = (run) => run.state === "training" || run.state === "waiting";
const wide = matchMedia("(min-width:721px)");

window.Plumbline.runs = async (root) => {
  root.classList.add("page");
  const list = make("aside", { "aria-label": "All runs" }), detail = make("div", "stack");
  fill(root, make("div", "split", list, detail));
  await Promise.all([loadScript("/ui/vendor/uPlot.iife.min.js"), document.fonts.ready]);
  const parts = await Promise.all(["curves", "answers", "calibration", "overlay", "over_optimisation"].map((name) => import(`/ui/${name}.js`)));
  const page = new RunsPage(list, detail, Object.assign({}, ...parts));
  await page.refresh();
  root.dataset.ready = "yes";
  every(1, root, () => page.live && page.refresh());
  document.addEventListener("visibilitychange", () => !document.hidden && page.refresh());
  window.addEventListener("popstate", () => page.refresh());
};

function loadScript(src) {
  if (window.uPlot) return Promise.resolve();
  return new Promise((resolve, reject) => {
    document.head.append(make("script", { src, onload: resolve, onerror: () => reject(new Error(`${src} could not be loaded.`)) }));
  });
}

class RunsPage {
  constructor(list, detail, parts) {
    Object.assign(this, { list, detail, parts, runs: [], view: null, drawnList: "", live: true, asking: null });
    this.overlay = new parts.Overlay(() => this.view?.run && this.paintCurves(this.view.run), (sentence) => this.complain(sentence));
  }

  /** Asks for the chosen run, whose answer has the list too, and draws what changed. Never twice at once. */
  refresh() {
    this.asking = (this.asking ?? Promise.resolve()).then(() => this.ask()).catch((error) => this.complain(error.message));
    return this.asking;
  }

  async ask() {
    if (!this.runs.length) this.runs = (await api("/api/runs")).runs;
    const chosen = this.chosen();
    if (!chosen) this.drawEmpty();
    else if (!(await this.drawDetail(chosen))) return this.unknown(chosen);
    this.live = [...this.runs, this.view?.run].some((run) => run && isLive(run)); // the run shown was read a moment before the list
    this.drawList(chosen);
    if (chosen) await this.overlay.follow(chosen);
    this.notice?.remove();
  }

  /** The run in the address, or the one that most likely matters. */
  chosen() {
    const asked = new URLSearchParams(location.search).get("run");
    return asked ?? (this.runs.find((run) => run.state === "training") ?? this.runs.findLast((run) => run.state === "waiting") ?? this.runs[0])?.id;
  }

  choose(event, id) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // a new tab or window, as with any link
    event.preventDefault();
    if (!wide.matches) this.list.querySelector("details").open = false;
    this.show(id);
  }

  show(id) {
    history.pushState(null, "", `${location.pathname}?run=${encodeURIComponent(id)}`);
    return this.refresh();
  }

  complain(sentence) {
    this.notice?.remove();
    this.notice = say("bad", sentence);
    this.detail.prepend(this.notice);
  }

  // ---- the list ----

  drawList(chosen) {
    const drawn = JSON.stringify([chosen, this.runs.map((run) => [run.id, run.state, run.place, run.behind, isLive(run) ? "" : run.message])]);
    if (drawn !== this.drawnList) this.rebuildList(chosen);
    this.drawnList = drawn;
    for (const run of this.runs.filter(isLive)) paintProgress(this.list.querySelector(`[data-run="${CSS.escape(run.id)}"]`), run);
  }

  rebuildList(chosen) {
    const focused = document.activeElement?.dataset?.run, wasOpen = this.list.querySelector("details")?.open ?? wide.matches;
    const groups = [["Training", "training"], ["Waiting", "waiting"], ["Ended", null]];
    const inGroup = (name) => this.runs.filter((run) => (name ? run.state === name : !isLive(run)));
    const counted = groups.map(([title, name]) => [inGroup(name).length, title.toLowerCase()]).filter(([n]) => n).map(([n, word]) => `${n} ${word}`).join(", ");
    const items = groups.flatMap(([title, name]) => {
      const runs = name === "waiting" ? inGroup(name).sort((a, b) => a.place - b.place) : inGroup(name);
      return runs.length ? [make("h2", "h3", title), ...runs.map((run) => this.item(run, run.id === chosen))] : [];
    });
    fill(this.list,
      make("div", "row between", make("h1", "", "Runs"), make("a", { class: "btn go", href: "/runs/new" }, icon("plus"), "New run")),
      make("p", "lede not-s", counted && `${counted[0].toUpperCase()}${counted.slice(1)}. `, "A run turns a frozen set of data into the next model version."),
      make("details", { class: "all", open: wasOpen || wide.matches },
        make("summary", "only-s", icon("chevron-right"), `All runs: ${counted || "none yet"}`),
        make("nav", { class: "runs", "aria-label": "Runs" }, items)));
    if (focused) this.list.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
  }

  item(run, isChosen) {
    const [kind, word] = WORDS[run.state] ?? ["", run.state];
    const said = run.state === "waiting" && run.place ? `${ordinal(run.place)} in line` : word;
    const href = `/runs?run=${encodeURIComponent(run.id)}`;
    return make("a", { class: `it ${run.state}`, href, "data-run": run.id, "aria-current": isChosen && "true", onclick: (event) => this.choose(event, run.id) },
      make("span", "l1", make("span", "nm", run.id), state(kind, said)),
      make("span", "l2", make("span", "", `${run.method} · ${path(run)}`), make("span", "num at", isLive(run) ? "" : when(run.ended_at ?? run.created_at))),
      run.state === "training" && make("span", "bar", make("i")),
      make("span", "out", isLive(run) ? "" : run.message));
  }

  // ---- one run ----

  async drawDetail(id) {
    const same = this.view?.id === id;
    const run = await api(`/api/runs/${encodeURIComponent(id)}?${same ? this.view.since() : ""}`).catch((error) => {
      if (error.status !== 404) throw error;
      return null;
    });
    if (!run) return false;
    this.runs = run.runs;
    if (!same || this.view.state !== run.state) this.rebuildDetail(run, same ? this.view.points : []);
    this.view.take(run);
    this.paintHead(run);
    this.paintCurves(run);
    this.paintAnswers(run);
    this.paintLog(run);
    return true;
  }

  /** An old link, or a mistyped one: the list is there to go on from, and nothing is asked again and again. */
  unknown(id) {
    this.forget();
    this.live = false;
    this.drawList(id);
    fill(this.detail, say("bad", `There is no run ${id}. Choose one from the list, or start a new one.`));
  }

  forget() {
    this.view?.plots.forEach((plot) => plot.destroy());
    this.view = null;
  }

  rebuildDetail(run, points) {
    this.forget();
    const view = this.view = new View(run, points);
    const page = { stop: () => this.post(run, "stop"), resume: () => this.post(run, "resume"), again: () => this.again(run), settings: () => view.openSettings() };
    view.plots = [this.parts.curves(view.own, this.parts.ownCurves(run.method_name)), this.parts.curves(view.more, this.parts.moreCurves(run.method_name)), this.parts.goldAgainstReward(view.gold, run.method_name)];
    view.folded.addEventListener("toggle", () => this.paintCurves(view.run));
    const lay = button("", "Lay another run over", () => this.overlay.open(this.runs, run.id, run.method), "btn sm ghost");
    fill(this.detail, head(run, view, page),
      view.curveCard = card("Curves", make("div", "row between ctop", make("div", "row legend", view.step, view.legend), lay), view.own, view.folded),
      this.parts.calibration(run.evaluation), view.gold, view.answers,
      card("Settings and log", view.settings, unfold("Made with", madeWith(run)), unfold("Log", view.log, view.lastLine)),
      make("div", "dock only-s", isLive(run) ? stopButton(run, page.stop) : run.can_resume && resumeButton(run, page.resume)));
  }

  paintHead(run) {
    const view = this.view, done = Math.round(100 * (run.state === "succeeded" ? 1 : run.steps ? run.step / run.steps : 0));
    view.bar.setAttribute("aria-valuenow", done);
    view.fill.style.width = `${done}%`;
    view.bar.classList.toggle("over", !isLive(run));
    view.left.textContent = timing(run, view.stopping);
    view.sayHealth(run.health, !isLive(run));
    if (run.state === "waiting") view.line.textContent = inLine(run);
    view.beside.textContent = run.state === "training" ? run.beside_servers : "";
    view.beside.hidden = !view.beside.textContent;
  }

  paintCurves(run) {
    const view = this.view;
    view.curveCard.hidden = !view.points.length;
    if (!view.points.length) return;
    view.step.textContent = `Step ${run.step} of ${run.steps}`;
    const end = isLive(run) || run.state === "succeeded" ? run.steps : run.step;
    const now = { points: view.points, steps: run.steps, end, best: run.best, others: this.overlay.under === run.id ? this.overlay.others : [] };
    view.plots[0].update(now);
    if (view.folded.open) view.plots[1].update(now);
    view.plots[2].update({ ...now, gold: run.gold });
    const legend = JSON.stringify([run.best, now.others.map((other) => [other.id, other.differences]), view.points.some(isHeldOut)]);
    if (legend !== view.legendFor) fill(view.legend, legendOf(run, view.points, this.parts.windowOf(run.steps), this.overlay.legend()));
    view.legendFor = legend;
  }

  paintAnswers(run) {
    const view = this.view, samples = JSON.stringify(run.samples);
    if (view.samples === samples) return;
    view.samples = samples;
    if (!run.samples.length) {
      const none = !run.prompts.length && !isLive(run);
      fill(view.answers, none && say("", "No held-out prompt was there when this run started, so none was answered as it went."));
      return;
    }
    const box = make("div", "ans");
    const nameOf = (first, last) => (first ? `${run.parent}, before training` : last && !isLive(run) ? "at the end" : last ? "latest" : "");
    const steps = this.parts.answers(box, run.samples, run.prompts, nameOf);
    const picks = steps.map((step, place) => make("button", { type: "button", "aria-pressed": String(place === steps.length - 1), onclick: (event) => {
      box.dataset.show = place;
      for (const other of event.currentTarget.parentElement.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
    } }, `Step ${step}`));
    const title = { 1: "The same held-out prompt", 2: "The same two held-out prompts", 3: "The same three held-out prompts" }[run.prompts.length] ?? "The same held-out prompts";
    fill(view.answers, make("section", { class: "card", "aria-label": "Held-out answers" },
      make("div", "row between ctop", make("div", "", make("h2", "", `${title}, as training goes`),
        make("p", "mut small", make("ins", "", "Marked"), " words are new since the step to the left. Nobody's judgment on these prompts is in the data.")),
      make("div", { class: "seg only-s", role: "group", "aria-label": "Step" }, picks)), box));
  }

  paintLog(run) {
    const view = this.view, log = run.log.join("\n");
    if (view.log.textContent === log) return;
    view.log.textContent = log;
    view.lastLine.textContent = run.log.at(-1) ?? "";
  }

  /** Stop or resume: the server does it, and what it is then is asked for. */
  async post(run, what) {
    for (const one of this.detail.querySelectorAll(`.${what}`)) one.disabled = true;
    try {
      await api(`/api/runs/${encodeURIComponent(run.id)}/${what}`, { method: "POST" });
      if (this.view) this.view.stopping = what === "stop";
      await this.refresh();
    } catch (error) {
      for (const one of this.detail.querySelectorAll(`.${what}`)) one.disabled = false;
      this.complain(error.message);
    }
  }

  async again(run) {
    try {
      await this.show((await api(`/api/runs/${encodeURIComponent(run.id)}/again`, { method: "POST" })).id);
    } catch (error) {
      this.complain(error.message);
    }
  }

  drawEmpty() {
    this.forget();
    fill(this.detail, make("div", "card empty", make("h2", "", "No runs yet"),
      make("p", "", "Label some prompts, freeze the judgments, and choose a method. The first run takes a minute on the starter model."),
      make("a", { class: "btn go", href: "/runs/new" }, icon("plus"), "New run")));
  }
}

/** What is on the page of one run, and what of it is here already. */
class View {
  constructor(run, points) {
    Object.assign(this, { id: run.id, state: run.state, run, points, offset: 0, plots: [], stopping: false });
    this.fill = make("i");
    this.bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.left = make("span", "num b");
    this.step = make("h2");
    this.legend = make("div", "row lgs");
    this.own = make("div", "curves");
    this.more = make("div", "curves");
    this.folded = unfold("More curves", this.more, "learning rate, gradient norm, speed, memory, …");
    this.gold = make("div", "stack");
    this.answers = make("div", "stack");
    this.log = make("pre", { class: "log", tabindex: "0", "aria-label": "Log" });
    this.lastLine = make("span", "last");
    this.settings = unfold("Settings", settings(run), changed(run));
    this.health = make("div", { class: "say", hidden: true });
    this.heard = make("span", { class: "sr", role: "status" });
    this.line = make("p");
    this.beside = make("p", "mut small");
  }

  /** Where to go on reading the points: the offset, and the time of the last one here, by which a resumed run is told. */
  since() {
    const last = this.points.at(-1);
    return last ? `since=${this.offset}&after=${last.time}` : "";
  }

  take(run) {
    this.run = run;
    this.offset = run.offset;
    if (run.points_from === 0) this.points = [];
    this.points.push(...run.points);
  }

  /** The figures change each second and are read aloud only when the verdict does. */
  sayHealth(health, over) {
    this.health.hidden = !health;
    if (!health) return;
    const spoken = `${health.title}. ${health.sentence}`;
    if (this.health.dataset.says === spoken) return;
    this.health.dataset.says = spoken;
    const drawn = say(over && health.kind === "ok" ? "" : health.kind, health.sentence, { lead: `${health.title}.` });
    this.health.className = `${drawn.className} health`;
    fill(this.health, [...drawn.childNodes]);
    if (this.heard.dataset.title !== health.title) this.heard.textContent = spoken;
    this.heard.dataset.title = health.title;
  }

  openSettings() {
    this.settings.open = true;
    this.settings.scrollIntoView({ block: "center" });
    this.settings.querySelector("summary").focus();
  }
}

// ---- the parts of a run ----

const ordinal = (n) => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th");
const path = (run) => (run.becomes && (isLive(run) || run.state === "succeeded") ? `${run.parent} → ${run.becomes}` : `from ${run.parent}`);
const isHeldOut = (point) => Object.keys(point).some((name) => name.startsWith("eval_"));
const card = (label, ...children) => make("section", { class: "card", "aria-label": label }, children);

function paintProgress(item, run) {
  if (!item) return;
  const left = run.seconds_left === null ? "" : ` · ${duration(run.seconds_left)} left`;
  item.querySelector(".at").textContent = run.state === "training" ? `${Math.round(100 * run.fraction)} %${left}` : `by ${run.started_by || "unknown"}`;
  item.querySelector(".out").textContent = run.state === "waiting" ? inLine(run) : run.health ?? run.message;
  const bar = item.querySelector(".bar i");
  if (bar) bar.style.width = `${100 * run.fraction}%`;
}

/** 1st in line on cpu; starts when dpo-08 ends, near 14:32. */
function inLine(run) {
  if (!run.device) return run.message; // a cluster has it, and says so
  const near = run.starts_in === null || run.starts_in === undefined ? "" : `, near ${clock(new Date(Date.now() + 1000 * run.starts_in))}`;
  if (run.beside_servers) return run.beside_servers;
  const then = run.behind ? `starts when ${run.behind} ends${near}` : "starts in a moment";
  return `${ordinal(run.place)} in line on ${run.device}; ${then}.`;
}

function head(run, view, page) {
  const [kind, word] = WORDS[run.state] ?? ["", run.state];
  const [outcome, lead] = OUTCOMES[run.state] ?? [null, ""];
  const settingsButton = button("", "Settings", page.settings, "btn ghost");
  return make("section", { class: "card runhead", "aria-label": `Run ${run.id}` },
    make("div", "row between", make("div", "row", make("h2", "big", run.id), state(kind, word)),
      make("div", "acts", make("span", "not-s", settingsButton), isLive(run) ? make("span", "not-s", stopButton(run, page.stop)) : afterwards(run, page))),
    story(run),
    make("div", "prg", view.bar, view.left), view.beside,
    outcome ? say(outcome, run.message, { lead, ways: ways(run) }) : run.state === "waiting" && make("div", "say", icon("clock"), view.line),
    view.health, view.heard);
}

function stopButton(run, stop) {
  const waiting = run.state === "waiting";
  const one = button("square", waiting ? "Take out of the line" : "Stop and keep checkpoint", stop, "btn stop");
  one.title = waiting ? "It has not started, so nothing is lost." : "It ends after its current step. A checkpoint is kept, no version is made.";
  return one;
}

function resumeButton(run, resume) {
  const one = button("play", run.checkpoint_step ? `Resume from step ${run.checkpoint_step}` : run.step ? "Start over" : "Put back in line", resume, "btn go resume");
  one.title = run.checkpoint_step ? "It goes on as if it had never been interrupted." : "No checkpoint was kept, so it begins at step 0.";
  return one;
}

function afterwards(run, page) {
  const again = button("rotate-ccw", "Run again", page.again, "btn again");
  again.title = "The same method, settings, data and seed: on the same machine the same weights, bit for bit.";
  return [again, run.can_resume && make("span", "not-s", resumeButton(run, page.resume))];
}

function ways(run) {
  if (run.state !== "succeeded") return [];
  const see = make("a", { class: "btn sm", href: `/models?version=${run.becomes}` }, `See ${run.becomes}`);
  return run.method_name === "reward_model" ? [see] : [see, make("a", { class: "btn sm", href: `/compare/?${new URLSearchParams({ a: run.becomes, b: run.parent })}` }, "Compare blind")];
}

function story(run) {
  const version = (id) => make("a", { href: `/models?version=${encodeURIComponent(id)}` }, id);
  const becomes = run.state === "succeeded" ? [", became ", version(run.becomes)] : isLive(run) && run.becomes ? [", will become ", make("b", "", run.becomes)] : [];
  return make("p", "ink2", `${run.method} from `, version(run.parent), becomes, ".", isLive(run) ? " Learns from " : run.step ? " Learned from " : " Was to learn from ", learntFrom(run.snapshot), scoredBy(run, version), ".",
    repeated(run), make("span", "mut", ` Started by ${run.started_by || "nobody named"}, ${when(run.created_at)}${run.attempt > 1 ? `, resumed ${count(run.attempt - 1, "time")}` : ""}.`));
}

/** A method that writes answers is taught by the version that scores them. */
function scoredBy(run, version) {
  const scorer = run.settings.find((one) => one.name === "reward_model")?.value;
  const [kind, name] = String(scorer ?? "").split(":"); // function:short, judge:house, or the id of a version
  return scorer ? [", scored by ", name ? `the ${kind} ${name}` : version(scorer)] : "";
}

function learntFrom({ judgments, people, rows, rows_are: are }) {
  const made = count(rows, are.replace(/s$/, ""), are);
  if (!judgments) return ["a ", make("a", { href: "/data" }, "snapshot"), ` of ${made}`];
  const frozen = `snapshot of ${count(judgments, "judgment")} by ${count(people, "person", "people")}`;
  return ["a ", make("a", { href: "/data" }, frozen), `, which ${judgments === 1 ? "makes" : "make"} ${made}`];
}

function repeated({ repeats }) {
  if (!repeats) return "";
  const link = make("a", { href: `/runs?run=${encodeURIComponent(repeats.id)}` }, repeats.id);
  const came = { true: ", and came to the same weights, bit for bit", false: ", and came to other weights: see what both were made with" }[repeats.same] ?? "";
  return [" Repeats ", link, came, "."];
}

function timing(run, stopping) {
  if (run.state === "waiting") return run.steps ? `About ${count(run.steps, "step")}` : "";
  if (!isLive(run)) return run.seconds ? `Took ${duration(run.seconds)}${run.peak_memory_mb ? `, ${memory(run.peak_memory_mb)} at most` : ""}` : `${run.step} of ${run.steps} steps`;
  if (stopping) return "Stopping after this step";
  if (run.seconds_left === null) return run.step ? "Measuring the pace" : "Loading the model";
  return `${duration(run.seconds_left)} left, done near ${clock(new Date(Date.now() + 1000 * run.seconds_left))}`;
}

const memory = (mb) => (mb < 1000 ? `${mb} MB` : `${(mb / 1024).toFixed(1)} GB`);

function legendOf(run, points, span, others) {
  const own = make("span", { class: "lg", title: span > 1 ? `The bold line is the average of ${span} steps, the thin one each step.` : "The line is each step." }, run.id);
  const held = points.some(isHeldOut) && make("span", "lg dot", "on held-out rows");
  const best = run.best && make("span", "lg best", `best checkpoint: step ${run.best.step}`);
  return [own, held, best, ...others];
}

function unfold(title, content, aside = "") {
  return make("details", "", make("summary", "", icon("chevron-right"), title, aside && make("span", "mut small plain", aside)), content);
}

// ---- settings, and what the run was made with ----

const changed = (run) => { const names = run.settings.filter((one) => one.changed); return names.length ? `changed: ${names.map((one) => one.name).join(", ")}` : "all as the form proposes them"; };

function settings(run) {
  const rows = run.settings.map((one) => make("tr", "",
    make("td", "", one.title, make("span", "sub mono", one.name)),
    make("td", "n", one.value === null ? "set by the data" : String(one.value)),
    make("td", one.changed ? "" : "mut", one.changed ? `changed from ${one.proposed ?? "set by the data"}` : "as proposed")));
  const table = make("table", "", make("thead", "", make("tr", "", make("th", "", "Setting"), make("th", "n", "Value"), make("th", "", "Against the proposal"))), make("tbody", "", rows));
  const file = make("a", { class: "btn sm", href: `/api/runs/${encodeURIComponent(run.id)}/settings.yaml`, download: `${run.id}.yaml` }, icon("download"), "Download as YAML");
  const changes = make("a", { class: "btn sm", href: `/runs/new?from=${encodeURIComponent(run.id)}` }, "Run again with changes");
  return make("div", "under", make("div", "row", file, changes), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings of this run" }, table));
}

function madeWith(run) {
  const { launch, hardware, code, packages } = run.made_with, pairs = [];
  const fact = (name, value) => value && pairs.push(make("dt", "", name), make("dd", "", value));
  fact("Data", `${run.snapshot.name}, fingerprint ${run.snapshot.fingerprint.slice(0, 12)}`);
  fact("Where", launch && [launch.where === "ray" ? "Ray cluster" : "this machine", launch.device, launch.processes > 1 && `${launch.processes} processes`, launch.sharding !== "none" && launch.sharding].filter(Boolean).join(", "));
  fact("Folder", run.made_with.directory);
  fact("Tracker", run.made_with.tracker);
  fact("Machine", hardware && [hardware.machine, hardware.processor, hardware.cores && count(hardware.cores, "core"), hardware.memory_mb && memory(hardware.memory_mb)].filter(Boolean).join(", "));
  fact("Plumbline", code && [code.version, code.commit && `commit ${code.commit.slice(0, 12)}`].filter(Boolean).join(", "));
  fact("Packages", packages && Object.entries(packages).map(([name, version]) => `${name} ${version}`).join(", "));
  return make("dl", "kv under", pairs);
}
})();
