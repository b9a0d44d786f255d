/* The runs page: all runs at the left, one at the right.

   Everything shown is asked of the server, so a refresh, a closed tab or a restarted app loses nothing. It is asked again
   every second while a run is under way and the tab is visible; of the points only those that are new. */
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
  const [{ curves, windowOf }, { answers }] = await Promise.all([import("/ui/curves.js"), import("/ui/answers.js")]);
  const page = new RunsPage(list, detail, { curves, answers, windowOf });
  await page.refresh();
  root.dataset.ready = "yes";
  every(1, root, () => page.live && page.refresh());
  document.addEventListener("visibilitychange", () => !document.hidden && page.refresh());
  window.addEventListener("popstate", () => page.refresh());
};

// The parts of /runs/new, loaded when they are there.
for (const [part, name] of [["newRunHead", "head"], ["methods", "methods"], ["snapshotCounts", "snapshotCounts"], ["said", "said"]])
  window.Plumbline[part] = async (root, given) => (await import("/ui/new_run.js"))[name](root, given);

function loadScript(src) {
  if (window.uPlot) return Promise.resolve();
  return new Promise((resolve, reject) => {
    document.head.append(make("script", { src, onload: resolve, onerror: () => reject(new Error(`${src} could not be loaded.`)) }));
  });
}

class RunsPage {
  constructor(list, detail, parts) {
    Object.assign(this, { list, detail, parts, runs: [], view: null, drawnList: "", live: true });
  }

  /** Asks for the list and the chosen run, and draws what changed. */
  async refresh() {
    try {
      this.runs = (await api("/api/runs")).runs;
      this.live = this.runs.some(isLive);
      const chosen = this.chosen();
      this.drawList(chosen);
      if (chosen) await this.drawDetail(chosen);
      else if (!this.runs.length) this.drawEmpty();
      this.notice?.remove();
    } catch (error) {
      this.complain(error.message);
    }
  }

  /** The run in the URL, or the one that most likely matters. */
  chosen() {
    const asked = new URLSearchParams(location.search).get("run");
    return asked ?? (this.runs.find((run) => run.state === "training") ?? this.runs.findLast((run) => run.state === "waiting") ?? this.runs[0])?.id;
  }

  choose(event, id) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // a new tab or window, as with any link
    event.preventDefault();
    history.pushState(null, "", `${location.pathname}?run=${encodeURIComponent(id)}`);
    if (!wide.matches) this.list.querySelector("details").open = false;
    this.refresh();
  }

  complain(sentence) {
    this.notice?.remove();
    this.notice = say("bad", sentence);
    this.detail.prepend(this.notice);
  }

  // ---- the list ----

  drawList(chosen) {
    const drawn = JSON.stringify([chosen, this.runs.map((run) => [run.id, run.state, run.message, run.place])]);
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
      make("p", "lede not-s", counted && `${counted[0].toUpperCase()}${counted.slice(1)}. `, "A run turns a frozen set of judgments into the next model version."),
      make("details", { class: "all", open: wasOpen || wide.matches },
        make("summary", "only-s", icon("chevron-right"), `All runs: ${counted || "none yet"}`),
        make("nav", { class: "runs", "aria-label": "Runs" }, items)));
    if (focused) this.list.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
  }

  item(run, isChosen) {
    const [kind, word] = WORDS[run.state] ?? ["", run.state];
    const said = run.state === "waiting" && run.place ? `${ordinal(run.place)} in line` : word;
    const href = `/runs?run=${encodeURIComponent(run.id)}`;
    return make("a", { class: "it", href, "data-run": run.id, "aria-current": isChosen && "true", onclick: (event) => this.choose(event, run.id) },
      make("span", "l1", make("span", "nm", run.id), state(kind, said)),
      make("span", "l2", make("span", "", `${run.method} · ${path(run)}`), make("span", "num at", isLive(run) ? "" : when(run.ended_at ?? run.created_at))),
      run.state === "training" && make("span", "bar", make("i")),
      make("span", "out", run.message));
  }

  // ---- one run ----

  async drawDetail(id) {
    const same = this.view?.id === id;
    const run = await api(`/api/runs/${encodeURIComponent(id)}?since=${same ? this.view.offset : 0}`).catch((error) => {
      this.forget();
      fill(this.detail, say("bad", error.message));
      throw error;
    });
    if (!same || this.view.state !== run.state) this.rebuildDetail(run, same ? this.view.points : []);
    const view = this.view;
    view.offset = run.offset;
    view.points.push(...run.points);
    paintHead(view, run);
    paintCurves(view, run, this.parts.windowOf);
    if (view.samples !== run.samples.length) this.paintAnswers(run);
    view.samples = run.samples.length;
    const log = run.log.join("\n");
    if (view.log.textContent !== log) view.log.textContent = log;
  }

  forget() {
    this.view?.curves.destroy();
    this.view = null;
  }

  rebuildDetail(run, points) {
    this.forget();
    const parts = { id: run.id, state: run.state, points, offset: 0, samples: -1, shown: 2 };
    const card = (label, ...children) => make("section", { class: "card", "aria-label": label }, children);
    parts.fill = make("i");
    parts.bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, parts.fill);
    parts.left = make("span", "num b");
    parts.step = make("h2");
    parts.plots = make("div", "curves");
    parts.curves = this.parts.curves(parts.plots);
    parts.legend = make("span", "lg");
    parts.curveCard = card("Curves", make("div", "row between ctop", parts.step, parts.legend), parts.plots);
    parts.answers = make("div", "stack");
    parts.log = make("pre", { class: "log", tabindex: "0", "aria-label": "Log" });
    this.view = parts;
    fill(this.detail, head(run, parts, () => this.stop(run)), parts.curveCard, parts.answers,
      card("Settings and log", unfold("Settings", settings(run)), unfold("Log", parts.log, "the last 40 lines")),
      isLive(run) && make("div", "dock only-s", stopButton(run, () => this.stop(run))));
  }

  paintAnswers(run) {
    const parts = this.view;
    if (!run.samples.length) {
      const none = !run.prompts.length && !isLive(run);
      fill(parts.answers, none && say("", "No held-out prompt was there when this run started, so none was answered as it went."));
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
    fill(parts.answers, make("section", { class: "card", "aria-label": "Held-out answers" },
      make("div", "row between ctop", make("div", "", make("h2", "", `${title}, as training goes`),
        make("p", "mut small", make("ins", "", "Marked"), " words are new since the step to the left. Nobody's judgment on these prompts is in the data.")),
      make("div", { class: "seg only-s", role: "group", "aria-label": "Step" }, picks)), box));
  }

  async stop(run) {
    for (const one of this.detail.querySelectorAll(".stop")) one.disabled = true;
    try {
      await api(`/api/runs/${encodeURIComponent(run.id)}/stop`, { method: "POST" });
      this.view.stopping = true;
      await this.refresh();
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

// ---- the parts of a run ----

const ordinal = (n) => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th");
const path = (run) => (run.becomes && (isLive(run) || run.state === "succeeded") ? `${run.parent} → ${run.becomes}` : `from ${run.parent}`);

function paintProgress(item, run) {
  if (!item) return;
  const left = run.seconds_left === null ? "" : ` · ${duration(run.seconds_left)} left`;
  item.querySelector(".at").textContent = run.state === "training" ? `${Math.round(100 * run.fraction)} %${left}` : `by ${run.started_by || "unknown"}`;
  const bar = item.querySelector(".bar i");
  if (bar) bar.style.width = `${100 * run.fraction}%`;
}

function head(run, parts, stop) {
  const [kind, word] = WORDS[run.state] ?? ["", run.state];
  const [outcome, lead] = OUTCOMES[run.state] ?? [null, ""];
  return make("section", { class: "card runhead", "aria-label": `Run ${run.id}` },
    make("div", "row between", make("div", "row", make("h2", "big", run.id), state(kind, word)),
      isLive(run) && make("div", "acts not-s", stopButton(run, stop))),
    story(run),
    make("div", "prg", parts.bar, parts.left),
    outcome ? say(outcome, run.message, { lead, ways: ways(run) }) : run.state === "waiting" && say("", run.message));
}

function stopButton(run, stop) {
  const waiting = run.state === "waiting";
  const happens = waiting ? "It has not started, so nothing is lost." : "It ends after its current step. A checkpoint is kept, no version is made.";
  const one = button("square", waiting ? "Take out of the line" : "Stop and keep checkpoint", stop, "btn stop");
  one.title = happens;
  return one;
}

function ways(run) {
  if (run.state !== "succeeded") return [];
  return [make("a", { class: "btn sm", href: `/models?version=${run.becomes}` }, `See ${run.becomes}`), make("a", { class: "btn sm", href: "/compare" }, "Compare blind")];
}

function story(run) {
  const version = (id) => make("a", { href: `/models?version=${encodeURIComponent(id)}` }, id);
  const { judgments, people, rows, rows_are: are } = run.snapshot;
  const learns = `${isLive(run) ? " Learns" : " Learned"} from a `;
  const frozen = `snapshot of ${count(judgments, "judgment")} by ${count(people, "person", "people")}`;
  const becomes = run.state === "succeeded" ? [", became ", version(run.becomes)] : isLive(run) && run.becomes ? [", will become ", make("b", "", run.becomes)] : [];
  const made = rows === 1 ? are.replace(/s$/, "") : are;
  return make("p", "ink2", `${run.method} from `, version(run.parent), becomes, ".", learns, make("a", { href: "/data" }, frozen),
    `, which ${judgments === 1 ? "makes" : "make"} ${rows.toLocaleString("en")} ${made}.`,
    make("span", "mut", ` Started by ${run.started_by || "nobody named"}, ${when(run.created_at)}.`));
}

function paintHead(parts, run) {
  const done = Math.round(100 * (run.state === "succeeded" ? 1 : run.steps ? run.step / run.steps : 0));
  parts.bar.setAttribute("aria-valuenow", done);
  parts.fill.style.width = `${done}%`;
  parts.bar.classList.toggle("over", !isLive(run));
  parts.left.textContent = timing(run, parts.stopping);
}

function timing(run, stopping) {
  if (run.state === "waiting") return `${count(run.steps, "step")} planned`;
  if (!isLive(run)) return run.seconds ? `Took ${duration(run.seconds)}${run.peak_memory_mb ? `, ${memory(run.peak_memory_mb)} at most` : ""}` : `${run.step} of ${run.steps} steps`;
  if (stopping) return "Stopping after this step";
  if (run.seconds_left === null) return run.step ? "Measuring the pace" : "Loading the model";
  return `${duration(run.seconds_left)} left, done near ${clock(new Date(Date.now() + 1000 * run.seconds_left))}`;
}

const memory = (mb) => (mb < 1000 ? `${mb} MB` : `${(mb / 1024).toFixed(1)} GB`);

function paintCurves(parts, run, windowOf) {
  parts.curveCard.hidden = !parts.points.length;
  if (!parts.points.length) return;
  parts.step.textContent = `Step ${run.step} of ${run.steps}`;
  parts.legend.textContent = `average of ${windowOf(run.steps)} steps; the thin line is each step`;
  parts.curves.update(parts.points, run.steps, isLive(run) || run.state === "succeeded" ? run.steps : run.step);
}

function unfold(title, content, aside = "") {
  return make("details", "", make("summary", "", icon("chevron-right"), title, aside && make("span", "mut small plain", aside)), content);
}

function settings(run) {
  const rows = run.settings.map((one) => make("tr", "",
    make("td", "", one.title, make("span", "sub mono", one.name)),
    make("td", "n", one.value === null ? "set by the data" : String(one.value)),
    make("td", "mut", one.changed ? "changed" : "default")));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings of this run" }, make("table", "", make("thead", "", make("tr", "",
    make("th", "", "Setting"), make("th", "n", "Value"), make("th", "", "Against the default"))), make("tbody", "", rows)));
}
})();
