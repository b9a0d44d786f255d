/* The label page: one item after the other, judged by keyboard, mouse or thumb.

   What is on screen is an entry: the item, what was said about it so far, and the key of the judgment if one was
   submitted. The live entry is the one not judged yet; Back walks through the last ten judged ones. Submitting puts the
   judgment into the outbox and shows the next item at once, which the feed fetched ahead. */
(() => {
"use strict";
const { api, ago, make, cards, keys, newKey, entries, Attention, Feed, Outbox, LabelView, dragLetters, thumbs, ranking } = window.Plumbline;

const MODES = [thumbs, ranking];
const MOST_REOPENED = 10;
const LOOK_AGAIN = 3000;

class LabelPage {
  constructor(root) {
    this.live = this.entry = null;
    this.past = []; // judged entries, oldest first
    this.reopened = null; // index in `past` of the entry on screen
    this.focus = 0;
    this.extra = 0; // judged since the server's last count
    this.arriving = false;
    this.attention = new Attention();
    this.view = new LabelView(root, {
      submit: () => this.submit(), back: () => this.back(), skip: (reason) => this.skip(reason),
      choose: (index, value) => this.choose(index, value), focus: (index, how) => this.setFocus(index, how),
      noted: (id, text) => this.noted(id, text), project: (id) => this.changeProject(id), retry: () => this.feed.refill(),
    });
    this.outbox = new Outbox({
      changed: (...state) => this.view.paintSaving(...state),
      delivered: () => this.feed.refill(),
      refused: (entry, sentence) => this.refused(entry, sentence),
    });
    const project = new URLSearchParams(location.search).get("project") ?? "";
    this.feed = new Feed({ outbox: this.outbox, project, changed: () => this.fed() });
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("visibilitychange", () => document.hidden || this.feed.refill());
    dragLetters(root, {
      active: () => this.entry && this.mode === ranking,
      focus: (index) => this.setFocus(index, { move: true }),
      drop: (index, rank) => this.say(index, rank || null, { advance: false }),
    });
  }

  async start() {
    this.view.setState("loading", make("p", "", "Fetching the first prompt…"));
    await this.feed.refill();
    await this.readHistory();
  }

  /** Judgments made before this page was loaded can be reopened too. */
  async readHistory() {
    if (!this.feed.project) return;
    const path = `/api/label/history?${new URLSearchParams({ project: this.feed.project.id })}`;
    const answer = await api(path).catch(() => ({ judged: [] }));
    const known = new Set(this.past.map((entry) => entry.item.assignment));
    const before = answer.judged.reverse().filter((judged) => !known.has(judged.item.assignment)).map((judged) => this.judgedEntry(judged));
    this.past = [...before, ...this.past].slice(-MOST_REOPENED);
    if (this.reopened !== null) this.reopened += before.length;
    this.paintAround();
  }

  judgedEntry({ item, key, verdict, notes, note, focused_seconds: seconds, judged_at: at }) {
    return { item, key, note, notes, at, seconds, answers: this.mode.restore(verdict), submitted: true };
  }

  /* ---- items come ---- */

  /** The server answered, or did not. */
  fed() {
    const { project, projects, error } = this.feed;
    clearTimeout(this.timer);
    if (project) this.setProject(project, projects);
    this.extra = this.pending();
    if (!this.entry) this.advance();
    else if (this.feed.ahead.length === 0 || error) this.timer = setTimeout(() => this.feed.refill(), LOOK_AGAIN);
    this.paintAround();
  }

  setProject(project, projects) {
    const known = this.project;
    this.project = project;
    this.mode = MODES.find((mode) => mode.name === project.feedback_type) ?? ranking;
    if (JSON.stringify([known, this.projects]) === JSON.stringify([project, projects])) return;
    this.projects = projects;
    this.view.showProject(project, projects, this.mode);
  }

  /** Shows the next item, or says why there is none and looks again by itself. */
  advance() {
    const item = this.feed.next();
    this.reopened = null;
    this.live = item && entries.fresh(item);
    if (this.live) return this.show(this.live);
    this.entry = null;
    this.view.paintReopened("");
    this.view.showNothing(this.feed, this.outbox.size);
    this.timer = setTimeout(() => this.feed.refill(), LOOK_AGAIN);
    this.paintAround();
  }

  show(entry) {
    this.entry = entry;
    this.focus = 0;
    this.arriving = true;
    this.view.showItem(entry, this.mode);
    this.view.paintReopened(this.reopened === null ? "" : `You judged this ${ago(entry.at)}. What you submit now replaces it.`);
    this.paint();
    this.paintAround();
    this.attention.restart(entry.seconds);
    this.view.say(`${this.reopened === null ? "Next prompt" : "Judged before"}. ${entry.item.responses.length} answers.`);
    cards.painted(() => this.entry === entry && this.arrived());
  }

  /** Keys count from now on, because the item can be seen. */
  arrived() {
    this.arriving = false;
    this.view.arrived(this.entry.item.assignment);
  }

  /* ---- a person says something ---- */

  key(event) {
    const key = keys.meant(event);
    if (!key) return;
    if (key === "escape") return this.leaveText(event);
    if (this.perform(key)) event.preventDefault();
  }

  /** True where the key means something here. */
  perform(key) {
    if (key === "g") return this.view.open.guidelines.click(), true;
    if (key === "?") return this.view.open.keys.click(), true;
    if (this.arriving) return true;
    if (key === "z") return this.back(), true;
    if (!this.entry) return false;
    if (key === "submit") return this.submit(), true;
    if (key === "s") return this.reopened === null && this.view.skip.open(), true;
    if (key === "n") return this.view.openNote(this.focus), true;
    const index = cards.LETTERS.toLowerCase().indexOf(key);
    if (index >= 0) return index < this.ids.length && this.setFocus(index, { move: true }), true;
    const value = this.mode.valueOf(key, this.ids.length);
    if (value === undefined) return false;
    this.say(this.focus, value, { advance: value !== null });
    return true;
  }

  leaveText(event) {
    if (event.target.matches?.("textarea")) this.view.moveTo(this.focus);
  }

  get ids() {
    return this.entry.item.responses.map((response) => response.id);
  }

  /** A click on a choice that is on takes it back. */
  choose(index, value) {
    const on = this.entry.answers[this.ids[index]] === value;
    this.say(index, on ? null : value, { advance: false });
  }

  /** The answer at `index` gets this value (null: none); then the focus moves to the next one without. */
  say(index, value, { advance }) {
    const { answers } = this.entry, id = this.ids[index];
    if (value === null) delete answers[id];
    else answers[id] = value;
    this.focus = advance ? this.nextOpen(index) : index;
    this.paint();
    if (advance) this.view.moveTo(this.focus);
    this.view.say(this.mode.said(cards.LETTERS[index], answers, id, this.ids));
    entries.keepDraft(this.entry);
  }

  nextOpen(index) {
    const { ids } = this, after = ids.map((_, step) => (index + 1 + step) % ids.length);
    return after.find((other) => !(ids[other] in this.entry.answers)) ?? index;
  }

  setFocus(index, { move }) {
    if (this.focus !== index) {
      this.focus = index;
      this.paint();
    }
    if (move) this.view.moveTo(index);
  }

  noted(id, text) {
    this.entry.notes[id] = text;
    entries.keepDraft(this.entry);
    this.paint();
  }

  /* ---- submitting, going back, skipping ---- */

  submit() {
    if (!this.entry || this.arriving) return;
    const { ready, text } = this.mode.status(this.entry.answers, this.ids);
    if (!ready) return this.view.refuse(`Not yet: ${text.toLowerCase()}.`);
    if (this.reopened !== null && !this.changed()) return this.goOn();
    const entry = this.entry, supersedes = entry.key;
    Object.assign(entry, { key: newKey(), seconds: this.attention.seconds(), at: new Date().toISOString() });
    this.outbox.put("judge", this.judgment(entry, supersedes));
    entry.as = entries.fingerprint(entry);
    if (this.reopened === null) this.remember(entry);
    entries.dropDraft(entry);
    this.goOn();
  }

  judgment({ item, key, seconds, answers, note, notes }, supersedes) {
    return { key, assignment: item.assignment, verdict: this.mode.verdict(answers), displayed: this.ids,
      focused_seconds: seconds, note, notes, guideline_version: this.project.guideline_version, supersedes };
  }

  remember(entry) {
    this.extra += 1;
    this.past = [...this.past, entry].slice(-MOST_REOPENED);
  }

  changed() {
    return this.entry.key === null || entries.fingerprint(this.entry) !== this.entry.as;
  }

  /** After a reopened judgment comes the item that was left for it; otherwise the next one. */
  goOn() {
    const wasReopened = this.reopened !== null;
    this.reopened = null;
    if (wasReopened && this.live) this.show(this.live);
    else this.advance();
  }

  back() {
    const index = (this.reopened ?? this.past.length) - 1;
    if (index < 0 || this.arriving) return;
    if (this.reopened === null && this.entry) this.entry.seconds = this.attention.seconds();
    if (this.reopened !== null && this.changed()) entries.restore(this.entry);
    this.reopened = index;
    const entry = this.past[index];
    entry.as ??= entries.fingerprint(entry);
    this.show(entry);
  }

  skip(reason) {
    if (!this.entry || this.reopened !== null) return;
    this.outbox.put("skip", { assignment: this.entry.item.assignment, reason });
    entries.dropDraft(this.entry);
    this.advance();
  }

  /** The server has what it had before: an earlier judgment, or none. */
  refused({ body }, sentence) {
    this.view.paintRefused(`${sentence} (This was not stored.)`);
    const entry = this.past.find((one) => one.key === body.key);
    if (entry) entry.key = body.supersedes;
    if (entry && entry === this.entry) this.paint();
    else if (!entry?.key) this.comesAgain(body.assignment, entry);
    this.feed.refill();
  }

  /** As a prompt that is not judged, with what was said about it as the draft. */
  comesAgain(assignment, entry) {
    if (entry) entries.keepDraft(entry);
    this.past = this.past.filter((one) => one !== entry);
    if (this.reopened !== null) this.reopened = this.past.indexOf(this.entry);
    this.feed.forget(assignment);
  }

  changeProject(id) {
    location.search = new URLSearchParams({ project: id });
  }

  /* ---- painting ---- */

  paint() {
    const again = this.reopened === null ? null : { button: this.changed() ? "Replace" : "Leave as it is" };
    this.view.paint(this.entry, this.mode, this.focus, again);
  }

  paintAround() {
    this.view.paintBack((this.reopened ?? this.past.length) > 0, this.reopened === null);
    if (this.feed.progress) this.view.paintProgress(this.feed.progress, this.extra, this.pace());
  }

  /** First judgments that wait in the outbox: the server has not counted them. */
  pending() {
    return this.outbox.waiting().filter(([, { kind, body }]) => kind === "judge" && !body.supersedes).length;
  }

  /** Median seconds of the last judgments; null before there are three. */
  pace() {
    const seconds = this.past.map((entry) => entry.seconds).filter(Boolean).sort((one, other) => one - other);
    return seconds.length < 3 ? null : seconds[Math.floor(seconds.length / 2)];
  }
}

Object.assign(window.Plumbline, { label: (root) => new LabelPage(root).start() });
})();
