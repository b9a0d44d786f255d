/* The models page: how each version came to be, what is behind it, and whether a server answers as it. */
(() => {
"use strict";
const { make, fill, button, state, say, withInterval, count, api, every, serversCard, endpointsCard, usedFacts, lineage, facts, family, bringIntoView, wordOf, trust, scoreForm, addDialog } = window.Plumbline;

const stateOf = (version) => state(...wordOf(version));
const madeBy = (version) => (!version.parent ? "Base model" : version.method ? `${version.method} on ${version.parent}` : `From ${version.parent}`);

window.Plumbline.models = async (root) => {
  root.classList.add("page");
  const page = new ModelsPage(root);
  await page.refresh();
  await page.measure();
  root.dataset.ready = "yes";
  // a version that is being loaded, or restarted after a problem, changes without anybody's doing
  every(2, root, () => page.versions.some((version) => ["starting", "problem", "asleep"].includes(version.state)) && page.refresh());
  document.addEventListener("visibilitychange", () => !document.hidden && page.refresh());
  every(2, root, () => page.measure());
  window.addEventListener("popstate", () => page.refresh());
};

class ModelsPage {
  constructor(root) {
    Object.assign(this, { root, versions: [], drawn: "", forms: new Map() });
    this.servers = serversCard();
    this.endpoints = endpointsCard();
    this.used = { all: {}, shown: make("dl", "kv") };
    this.notice = make("div", "notice");
    this.unmeasured = make("div", "notice");
    this.body = make("div", "stack");
    this.dialog = addDialog(() => this.refresh());
    this.lede = make("p", "lede");
    fill(root, make("div", "head", make("div", "", make("h1", "", "Models"), this.lede),
      make("div", "acts", button("plus", "Add a base model", () => this.dialog.showModal()))), this.notice, this.unmeasured, this.body, this.dialog);
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
    fill(this.body, make("div", "mods", make("div", "stack", tree, this.table(chosen), this.servers.card, this.endpoints.card, chosen.kind === "reward_model" && this.scoring(chosen)), this.detail(chosen)));
    this.shownId = chosen.id;
    this.showUsed();
    scroller.scrollLeft = before;
    if (this.inView !== chosen.id) bringIntoView(scroller, tree.querySelector(".nd.sel"));
    this.inView = chosen.id;
  }

  /** Figures that change by the second: they are put into what is drawn, and nothing else is drawn anew. */
  async measure() {
    try {
      const { servers, used, endpoints } = await api("/api/models/servers");
      this.used.all = used;
      fill(this.unmeasured);
      this.endpoints.show(endpoints);
      if (this.servers.show(servers)) await this.refresh(); // what a server does, its versions do
      this.showUsed();
    } catch (error) {
      fill(this.unmeasured, say("warn", `What the servers do now is not known, and their figures are old. ${error.message}`));
    }
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

function conclusion(versions) {
  if (!versions.length) return "A base model is where every line begins.";
  const oldestFirst = [...versions].reverse(), named = (test) => oldestFirst.filter(test).map((version) => version.id);
  const served = named((version) => version.state === "served"), starting = named((version) => version.state === "starting"), asleep = named((version) => version.state === "asleep"), broken = named((version) => version.state === "problem");
  const are = (names) => (names.length > NAMED ? `${names.length} are` : `${list(names)} ${names.length === 1 ? "is" : "are"}`);
  const answering = [served.length && `${are(served)} served`, starting.length && `${are(starting)} starting`, asleep.length && `${are(asleep)} asleep while a run trains`].filter(Boolean).join(", ")
    || "None is served, so nobody can label or compare";
  const trouble = broken.length ? `; ${list(broken)} ${broken.length === 1 ? "has" : "have"} a problem` : "";
  return `${count(versions.length, "version")}, from the base to the newest. ${answering}${trouble}.`;
}

const NAMED = 4; // versions; of more, how many there are says more

const list = (words) => new Intl.ListFormat("en").format(words);

const empty = () => make("div", "card empty", make("h2", "", "No models yet"), make("p", "", "Add a base model: a folder on this machine, or a Hugging Face id that was downloaded before."));
})();
