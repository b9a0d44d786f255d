/* The compare page: two versions answer the same prompt, side by side and blind. After the submit the names appear; Enter
   again brings the next prompt. Held-out prompts come through the label page's feed and outbox; one's own is answered
   while one looks on, and what was on the page before comes back after it. */
(() => {
"use strict";
const { make, fill, api, button, count, say, cards, keys, newKey, ownPrompt, pairwise, results, versions, Attention, Feed, Outbox } = window.Plumbline;

const LOOK_AGAIN = 3000;
const ROWS = [...pairwise.keyRows(), ["↵", "Submit; then the names appear, and again for the next prompt"],
  ["S", "Skip this prompt; say why if you like"], ["G", "Guidelines"], ["?", "This list"]];

class ComparePage {
  constructor(root) {
    this.root = root;
    this.entry = this.before = this.asking = this.feed = this.found = null;
    this.versions = [];
    this.attention = new Attention();
    this.draw();
    this.outbox = new Outbox({
      changed: (...state) => this.paintSaving(...state),
      delivered: (entry, answer) => this.delivered(entry, answer),
      refused: (entry, sentence) => this.refused(entry, sentence),
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  /* ---- drawing ---- */

  draw() {
    this.tag = make("span", "tag");
    this.lede = make("span", "mut lede-in not-s");
    this.pickers = ["First version", "Second version"].map((label) => make("select", { "aria-label": label, onchange: () => this.picked() }));
    this.guidelines = keys.guidelinesSheet();
    this.keySheet = keys.keysSheet(this.root, ROWS);
    this.skipSheet = keys.skipSheet((reason) => this.skip(reason));
    this.prompt = make("section", { class: "prompt", "aria-label": "Prompt", tabindex: "-1" });
    this.grid = make("div", { class: "answers", "data-n": 2 });
    this.state = make("section", "state card");
    this.results = make("section", { class: "results", "aria-label": "What the judgments say so far" });
    this.live = make("div", { class: "sr", role: "status", "aria-live": "polite" });
    this.notice = make("div", "notice");
    this.own = ownPrompt.form({ ask: (text) => this.ask(text), stop: () => this.stopAsking(true) });
    fill(this.root, this.head(), this.notice, this.prompt, make("h2", "sr", "Answers"), this.grid, this.state, this.bar(), this.own.element, this.results,
      this.guidelines.dialog, this.keySheet, this.skipSheet.dialog, this.live);
  }

  head() {
    this.openGuidelines = keys.tool({ icon: "book-open", text: "Guidelines", key: "G", press: () => keys.toggle(this.guidelines.dialog) });
    this.openKeys = keys.tool({ icon: "keyboard", text: "Keys", key: "?", press: () => keys.toggle(this.keySheet) });
    return make("div", "chead", make("div", "where", make("h1", "", "Compare"), this.tag, this.lede),
      make("div", "side", this.openGuidelines, this.openKeys, make("div", "pickers", this.pickers[0], make("span", "mut small", "against"), this.pickers[1])));
  }

  bar() {
    this.scale = pairwise.control((choice) => this.choose(choice));
    this.saving = make("span", { class: "save small", role: "status" });
    this.skipButton = keys.tool({ text: "Skip", key: "S", press: () => (this.entry?.item ? this.skipSheet.open() : this.stopAsking(true)) });
    this.go = keys.tool({ text: "Submit", key: "↵", press: () => this.submit(), cls: "btn go submit" });
    this.judge = make("div", { class: "cbar", role: "region", "aria-label": "Your judgment" }, this.scale.element,
      make("div", "acts", this.saving, this.skipButton, this.go));
    return this.judge;
  }

  /* ---- which versions ---- */

  async start() {
    try {
      this.versions = (await api("/api/compare/versions")).versions;
    } catch (error) {
      return this.nothing("error", "This did not work", error.message, button("rotate-ccw", "Try again", () => this.start()));
    }
    if (this.versions.length < 2) return this.onlyOne();
    const [a, b] = versions.named(this.versions) ?? versions.newest(this.versions);
    this.pickers.forEach((picker, index) => {
      fill(picker, this.versions.map((version) => make("option", { value: version.id }, version.id)));
      picker.value = [a, b][index];
    });
    return this.picked();
  }

  onlyOne() {
    this.root.querySelector(".pickers").hidden = true;
    this.nothing("none", "There is one version only", "A comparison needs two. Train one on the runs page; it appears here by itself.");
    this.timer = setTimeout(() => this.start(), LOOK_AGAIN);
  }

  /** `mayLeave`: somebody has read that prompts of this very pair leave this machine, and wants it. */
  async picked([a, b] = this.pickers.map((picker) => picker.value), mayLeave = false) {
    this.stopAsking();
    const pair = this.pair = [a, b];
    this.state.hidden = this.own.element.hidden = true; // what they say and send is about the pair before
    this.root.querySelector(".pickers").hidden = false;
    history.replaceState(null, "", `?${new URLSearchParams({ a, b })}`);
    clearTimeout(this.timer);
    this.entry = this.before = this.found = this.feed = this.comparison = null;
    fill(this.notice);
    results(this.results, null, {});
    try {
      const begun = await api("/api/compare/start", { body: { versions: pair, may_leave: mayLeave } });
      if (this.pair !== pair) return;
      if (!begun.project) return this.nothing("leaves", "Prompts would leave this machine", begun.leaves, button("arrow-up", "Send them", () => this.picked(pair, true)));
      this.comparison = begun.project;
      fill(this.notice, versions.notice(this.versions, pair, begun.left_out));
    } catch (error) {
      return this.pair === pair && this.nothing("error", "This did not work", error.message);
    }
    const feed = new Feed({ outbox: this.outbox, project: this.comparison, changed: () => this.feed === feed && this.fed() });
    this.feed = feed;
    return Promise.all([feed.refill(), this.readResults()]);
  }

  /* ---- items ---- */

  fed() {
    clearTimeout(this.timer);
    if (this.feed.project) this.guidelines.fill(cards.prose(this.feed.project.guidelines_html));
    if (!this.entry) this.advance();
    else if (this.feed.ahead.length === 0) this.lookAgain();
  }

  lookAgain() {
    this.timer = setTimeout(() => this.feed.refill(), LOOK_AGAIN);
  }

  advance() {
    const { before } = this;
    this.before = null;
    if (before) return this.show(before);
    const item = this.feed.next();
    if (item) return this.show({ item, choice: null, key: null, names: null });
    this.entry = null;
    const { error, progress } = this.feed;
    if (error) this.nothing("error", error.status === 0 ? "Offline" : "This did not work", error.message);
    else this.nothing("empty", progress?.waiting || "The next prompt is on its way.", "This page looks again by itself.",
      versions.wayOut(progress, this.versions, this.pickers.map((picker) => picker.value)));
    this.lookAgain();
  }

  /** Says why there is nothing to judge. */
  nothing(state, title, sentence, way = null) {
    this.entry = null;
    this.setState(state);
    fill(this.state, make("div", "empty", make("h2", "", title), make("p", "", sentence), way));
    this.paintHead();
    results(this.results, this.found, { judged: true });
  }

  setState(state) {
    const item = state === "item";
    this.root.dataset.state = state;
    for (const part of [this.prompt, this.grid, this.judge]) part.hidden = !item;
    this.own.element.hidden = !this.comparison;
    this.state.hidden = item;
    if (!item) this.arrived();
  }

  show(entry) {
    this.entry = entry;
    this.arriving = true;
    this.setState("item");
    cards.prompt(this.prompt, entry.item.prompt.messages);
    this.cards = entry.item.responses.map((response, index) => this.card(response, index));
    fill(this.grid, this.cards.map((card) => card.element));
    this.paint();
    this.attention.restart(entry.seconds);
    this.prompt.focus({ preventScroll: true });
    this.live.textContent = "Next prompt. Two answers.";
    cards.painted(() => this.entry === entry && this.arrived());
  }

  /** Keys count from now on, because the item can be seen. */
  arrived() {
    this.arriving = false;
    this.root.dataset.item = this.entry?.item?.assignment ?? "";
    this.root.classList.add("ready");
  }

  card(response, index) {
    const name = make("span", "name");
    const words = response.text === null ? "Writing…" : count(response.text.split(/\s+/).filter(Boolean).length, "word");
    const length = make("span", "mut small num length", words);
    return { ...cards.card(response, index, { head: [name, length] }), name, length, id: response.id };
  }

  /* ---- a prompt of one's own ---- */

  async ask(text) {
    this.stopAsking();
    if (this.entry?.item && !this.entry.own && !this.entry.key) this.before = Object.assign(this.entry, { seconds: this.attention.seconds() });
    const asking = new AbortController(), entry = { own: true, item: null, choice: null, key: null, names: null };
    this.asking = asking;
    this.begin(entry, text);
    try {
      await ownPrompt.listen({ project: this.comparison, text }, asking.signal, (event) => this.asking === asking && this.heard(entry, event));
      this.own.clear();
      this.stopAsking();
    } catch (error) {
      if (this.asking !== asking) return; // stopped on purpose
      this.stopAsking(true);
      this.own.paint(false, error.message);
    }
  }

  /** The servers stop writing. With `back` the page goes on with what it showed before. */
  stopAsking(back = false) {
    this.asking?.abort();
    this.asking = null;
    this.own.paint(false);
    if (back && this.entry?.own && !this.entry.item) {
      this.entry = null;
      this.advance();
    }
  }

  begin(entry, text) {
    this.entry = entry;
    this.own.paint(true);
    this.setState("item");
    fill(this.prompt, make("div", "turn", make("div", "text", make("p", "", text))));
    this.cards = ["", ""].map((none, index) => this.card({ id: null, html: none, text: null }, index));
    const whole = this.versions.some((version) => version.endpoint && this.pair.includes(version.id));
    this.writing = ownPrompt.coming(this.cards, whole);
    fill(this.grid, this.cards.map((card) => card.element));
    this.paint();
    this.attention.restart();
    this.live.textContent = "Both answers are being written.";
    this.arrived();
  }

  heard(entry, { place, text, done, item }) {
    if (text) this.writing.add(place, text);
    if (done) {
      this.writing.end(place);
      this.cards[place].length.textContent = "Finished";
    }
    if (!item) return;
    entry.item = item;
    this.cards = item.responses.map((response, index) => this.card(response, index));
    fill(this.grid, this.cards.map((card) => card.element));
    this.paint();
    this.arrived();
    this.live.textContent = "Both answers are there.";
  }

  /* ---- judging ---- */

  key(event) {
    const key = keys.meant(event);
    if (key && this.perform(key)) event.preventDefault();
  }

  perform(key) {
    if (key === "g") return this.openGuidelines.click(), true;
    if (key === "?") return this.openKeys.click(), true;
    if (!this.entry || this.arriving) return key === "submit";
    if (key === "submit") return this.submit(), true;
    if (this.entry.key) return false; // judged: only Enter goes on
    if (key === "s") return this.skipButton.click(), true;
    const choice = pairwise.valueOf(key, this.entry.choice);
    if (choice === undefined) return false;
    this.choose(choice);
    return true;
  }

  choose(choice) {
    if (this.entry.key) return;
    this.entry.choice = choice;
    this.paint();
    this.live.textContent = pairwise.inWords(choice);
  }

  submit() {
    if (!this.entry || this.arriving) return;
    if (this.entry.key) return this.advance();
    if (this.entry.choice === null) return this.refuse("Not yet: choose from 1 to 7, or 0 if both are bad.");
    if (!this.entry.item) return this.refuse("Not yet: both answers are still being written.");
    const { item, choice } = this.entry;
    this.entry.key = newKey();
    this.refusal = "";
    this.outbox.put("judge", { key: this.entry.key, assignment: item.assignment, verdict: pairwise.verdict(choice),
      displayed: item.responses.map((response) => response.id), focused_seconds: this.attention.seconds(),
      guideline_version: this.feed.project.guideline_version });
    this.paint();
  }

  refuse(sentence) {
    this.live.textContent = sentence;
    this.go.classList.remove("nudge");
    void this.go.offsetWidth; // starts the animation again
    this.go.classList.add("nudge");
  }

  skip(reason) {
    if (!this.entry || this.entry.key) return;
    this.outbox.put("skip", { assignment: this.entry.item.assignment, reason });
    this.advance();
  }

  /** The server has it: now the names may be seen. */
  delivered(sent, answer) {
    if (this.entry && sent.body.key === this.entry.key) {
      this.entry.names = answer.names;
      this.paint();
      this.live.textContent = this.cards.map((card) => `${card.letter} is ${answer.names[card.id]}`).join(", ");
    }
    this.feed?.refill();
    this.readResults();
  }

  /** The server has no such judgment: it can be submitted again, here or when the prompt comes again. */
  refused({ body }, sentence) {
    if (this.entry?.key && this.entry.key === body.key) {
      this.entry.key = null;
      this.paint();
    } else {
      this.feed?.forget(body.assignment);
      this.feed?.refill();
    }
    this.live.textContent = this.refusal = sentence; // painted by paintSaving, which is called next
  }

  async readResults() {
    const project = this.comparison;
    const query = new URLSearchParams({ project, first: this.pickers[0].value });
    const found = await api(`/api/compare/results?${query}`).catch(() => this.found);
    if (project !== this.comparison) return;
    this.found = found;
    this.paintResults();
  }

  /* ---- painting ---- */

  paint() {
    const { choice, key, names } = this.entry, better = typeof choice === "number" ? pairwise.better(choice) : -1;
    this.cards.forEach((card, index) => {
      card.element.classList.toggle("on", index === better);
      card.badge.classList.toggle("on", index === better);
      card.name.textContent = names?.[card.id] ?? "";
    });
    this.scale.paint(choice, key !== null);
    this.skipButton.hidden = key !== null;
    const writing = choice !== null && !this.entry.item;
    this.go.setAttribute("aria-disabled", String(choice === null || writing));
    this.go.querySelector("span").textContent = key ? "Next prompt" : choice === null ? "Choose 1 to 7" : writing ? "Still writing" : "Submit";
    this.paintHead();
    this.paintResults();
  }

  paintHead() {
    const names = this.pickers.map((picker) => picker.value).filter(Boolean), seen = this.entry?.names;
    this.tag.hidden = !this.entry;
    this.tag.className = seen ? "tag ok" : "tag";
    this.tag.textContent = seen ? "Judged" : "Blind";
    this.lede.textContent = seen ? "Your judgment is in; now the names are shown."
      : names.length === 2 ? `${names.join(" and ")} answer the same prompt. You judge; the names come after.` : "";
  }

  paintResults() {
    results(this.results, this.found, { judged: !this.entry || this.entry.names !== null });
  }

  paintSaving(state, waiting, sentence) {
    this.saving.dataset.s = state === "saved" && this.refusal ? "offline" : state;
    const words = { saving: "Saving…", saved: this.refusal || (this.sent ? "Saved" : ""), offline: sentence || `Kept here, offline: ${count(waiting, "judgment")} to send` };
    this.saving.textContent = words[state];
    this.sent ||= state !== "saved";
  }
}

Object.assign(window.Plumbline, { compare: (root) => new ComparePage(root).start() });
})();
