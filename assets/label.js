/* The label page: one item after the other, judged by keyboard, mouse or thumb.

   What is on screen is an entry: the item, what was said about it so far, and the key of the judgment if one was
   submitted. The live entry is the one not judged yet; Back walks through the last ten judged ones. Submitting puts the
   judgment into the outbox and shows the next item at once, which the feed fetched ahead. */
(() => {
"use strict";
const { every, make, cards, keys, newKey, entries, beside, words, Attention, Feed, Outbox, LabelView, dragLetters, thumbs, ranking, pairwiseMode, edit } = window.Plumbline;

const MODES = [thumbs, ranking, pairwiseMode, edit];
const MOST_REOPENED = 10;
const LOOK_AGAIN = 3000;
const PAGES = { pagedown: 1, pageup: -1 };
const PREPARE_AFTER = 150; // ms
const RENEW = 300; // seconds; well within half a lease, so that nobody loses what they are still reading

class LabelPage {
  /** A preview brings its own outbox and feed, and takes keys only where the keyboard is on it. */
  constructor(root, { makeOutbox = (calls) => new Outbox(calls), makeFeed = (given) => new Feed(given), keyboard = document } = {}) {
    this.live = this.entry = this.coming = null; // coming: the entry of the next item, once it is prepared
    this.past = []; // judged entries, oldest first
    this.reopened = null; // index in `past` of the entry on screen
    this.focus = 0;
    this.extra = 0; // judged since the server's last count
    this.arriving = false;
    this.attention = new Attention();
    this.view = new LabelView(root, {
      submit: () => this.submit(), back: () => this.back(), skip: (reason) => this.skip(reason),
      choose: (index, value) => this.choose(index, value), focus: (index, how) => this.setFocus(index, how),
      noted: (id, text) => this.written("notes", id, text), rewritten: (id, text) => this.written("rewrites", id, text),
      rewrite: (index) => this.rewrite(index), takeBack: (index) => this.takeBack(index), toggle: (switched) => this.toggle(switched),
      differences: () => this.differences(),
      score: (index, criterion, value) => this.score(index, criterion, value), project: (id) => this.changeProject(id), retry: () => this.feed.refill(),
    });
    this.outbox = makeOutbox({
      changed: (...state) => this.view.paintSaving(...state),
      delivered: ({ body }) => this.delivered(body),
      refused: (entry, sentence) => this.refused(entry, sentence),
    });
    this.feed = makeFeed({ outbox: this.outbox, project: new URLSearchParams(location.search).get("project") ?? "", changed: () => this.fed() });
    keyboard.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("visibilitychange", () => document.hidden || this.feed.refill());
    dragLetters(root, {
      active: () => this.entry && this.mode === ranking,
      focus: (index) => this.setFocus(index, { move: true }),
      drop: (index, rank) => this.say(index, rank || null, { advance: false }),
    });
  }

  async start() {
    this.view.setState("loading", make("p", "", words("fetching")));
    await this.feed.refill();
    entries.dropOldDrafts();
    every(RENEW, this.view.root, () => this.feed.refill());
    await this.readHistory();
  }

  /** Judgments made before this page was loaded can be reopened too. */
  async readHistory() {
    await this.outbox.flush(); // what arrives while they are read would be missing among them
    const judged = await this.feed.history();
    const known = new Set(this.past.map((entry) => entry.item.assignment));
    const before = judged.filter((judged) => !known.has(judged.item.assignment)).map((judged) => this.asItWillBe(judged));
    this.past = [...before, ...this.past].slice(-MOST_REOPENED);
    if (this.reopened !== null) this.reopened = this.past.indexOf(this.entry);
    this.paintAround();
  }

  /** What the server has, with the changes that still wait to be sent. */
  asItWillBe(judged) {
    const change = (entry, [, { body }]) => (body.supersedes === entry.key ? entries.changedBy(entry, body, this.mode) : entry);
    return this.outbox.waiting().reduce(change, entries.judged(judged, this.mode));
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
    if (this.entry) this.paint();
    if (guidelinesChanged(project, known?.guideline_version)) this.view.paintChangedGuidelines();
  }

  /** Shows the next item, or says why there is none and looks again by itself. */
  advance() {
    const item = this.feed.next();
    this.reopened = null;
    this.live = item && (this.coming?.item === item ? this.coming : entries.fresh(item));
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
    this.view.paintReopened(this.reopened === null ? "" : words("reopened_when", { ago: words.ago(entry.at) }));
    this.paint();
    this.paintAround();
    this.attention.restart(entry.seconds);
    this.view.say(words(this.reopened === null ? "said_next" : "said_again", { n: entry.item.responses.length }));
    cards.painted(() => this.entry === entry && this.arrived());
  }

  /** Keys count from now on, because the item can be seen. */
  arrived() {
    this.arriving = false;
    this.view.arrived(this.entry.item.assignment);
    setTimeout(() => this.prepare(), PREPARE_AFTER);
  }

  /** What comes next is drawn while this is read, so that it needs only to be put there. */
  prepare() {
    const [item] = this.feed.ahead;
    if (!item || this.arriving) return;
    if (this.coming?.item !== item) this.coming = entries.fresh(item);
    if (this.view.prepared?.entry !== this.coming) this.view.prepare(this.coming, this.mode);
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
    if (key === "n") return this.view.cards[this.focus].openNote(), true;
    if (key === "r") return this.rewrite(this.focus), true;
    if (key === "v") return this.nextScore(), true;
    if (key === "x") return this.differences(), true;
    if (key in PAGES) return this.view.scroll(PAGES[key]);
    const switched = beside.switched(key, this.project);
    if (switched) return this.toggle(switched), true;
    const index = cards.LETTERS.toLowerCase().indexOf(key);
    if (index >= 0) return index < this.ids.length && this.setFocus(index, { move: true }), true;
    const value = this.mode.valueOf(key, this.ids.length, this.entry.answers);
    if (value === undefined) return false;
    if (this.mode === edit) return this.takeBack(this.focus), true;
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
    const on = this.entry.answers[this.name(index)] === value;
    this.say(index, on ? null : value, { advance: false });
  }

  /** What a value is kept under: the answer that it is about, or one name where it is about all of them. */
  name(index) {
    return this.mode.whole ?? this.ids[index];
  }

  /** The answer at `index` gets this value (null: none); then the focus moves to the next one without. */
  say(index, value, { advance }) {
    const { answers } = this.entry, id = this.name(index);
    if (value === null) delete answers[id];
    else answers[id] = value;
    const moves = advance && !this.mode.whole;
    if (!this.mode.whole) this.focus = moves ? this.nextOpen(index) : index;
    if (moves) this.view.moveTo(this.focus);
    this.changedTo(this.mode.said(cards.LETTERS[index], answers, id, this.ids));
  }

  /** Something was said: painted, announced, and kept as a draft. */
  changedTo(sentence) {
    this.paint();
    if (sentence) this.view.say(sentence);
    if (this.view.isPreview || this.reopened !== null) return;
    this.entry.seconds = this.attention.seconds();
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

  /** Text in a field of a card: "notes" or "rewrites". */
  written(field, id, text) {
    this.entry[field][id] = text;
    this.changedTo("");
  }

  /** The first time, the answer itself is there to be changed. */
  rewrite(index) {
    const id = this.ids[index];
    this.entry.rewrites[id] ??= this.entry.item.responses[index].text;
    this.focus = index;
    this.changedTo(words("said_rewriting", { letter: cards.LETTERS[index] }));
    this.view.cards[index].openRewrite();
  }

  takeBack(index) {
    if (!(this.ids[index] in this.entry.rewrites)) return;
    const had = this.view.cards[index].rewrite.box.contains(document.activeElement);
    delete this.entry.rewrites[this.ids[index]];
    this.changedTo(words("said_taken_back", { letter: cards.LETTERS[index] }));
    if (had) this.view.moveTo(index);
  }

  /** The same score again takes it back. */
  score(index, criterion, value) {
    const scores = (this.entry.scores[this.ids[index]] ??= {}), values = { letter: cards.LETTERS[index], criterion, n: value };
    const again = scores[criterion] === value;
    if (again) delete scores[criterion];
    else scores[criterion] = value;
    this.changedTo(words(again ? "said_no_score" : "said_score", values));
  }

  /** The next criterion of the card in focus, then the first one of the next card. */
  nextScore() {
    const order = this.ids.map((_, step) => (this.focus + step) % this.ids.length);
    const next = order.map((index) => this.view.cards[index].nextScore()).find(Boolean);
    next?.focus();
  }

  /** Marks where answers differ, or no longer. */
  differences() {
    if (!this.entry || !this.view.side.possible) return;
    const on = this.view.toggleDifferences(this.focus);
    this.view.say(words(on ? "said_differences" : "said_no_differences"));
  }

  /** A reason or a flag, on or off. */
  toggle({ field, value, text }) {
    if (!this.entry || this.arriving) return;
    const on = !this.entry[field].includes(value);
    this.entry[field] = on ? [...this.entry[field], value] : this.entry[field].filter((one) => one !== value);
    this.changedTo(words(on ? "said_on" : "said_off", { name: text }));
  }

  /* ---- submitting, going back, skipping ---- */

  submit() {
    if (!this.entry || this.arriving) return;
    const { ready, text } = this.mode.status(this.entry, this.ids);
    if (!ready) return this.view.refuse(words("not_yet", { what: text.toLocaleLowerCase(words.current()) }));
    if (this.reopened !== null && !entries.changed(this.entry)) return this.goOn();
    this.view.letGo();
    const entry = this.entry, supersedes = entry.key;
    Object.assign(entry, { key: newKey(), seconds: this.attention.seconds(), at: new Date().toISOString() });
    this.outbox.put("judge", this.judgment(entries.submitted(entry), supersedes));
    if (this.reopened === null) this.remember(entry);
    this.goOn();
  }

  judgment(entry, supersedes) {
    const { item, key, seconds, note, notes } = entry;
    const verdict = { ...entries.beside(entry), ...this.mode.verdict(entry.answers, entry) };
    return { key, assignment: item.assignment, verdict, displayed: this.ids,
      focused_seconds: seconds, note, notes, guideline_version: this.project.guideline_version, supersedes };
  }

  remember(entry) {
    this.extra += 1;
    this.past = [...this.past, entry].slice(-MOST_REOPENED);
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
    if (this.reopened !== null) this.leave(this.entry);
    this.reopened = index;
    this.show(this.past[index]);
  }

  /** What was changed and not submitted is taken back; what the server refused meanwhile comes again. */
  leave(entry) {
    if (entry.key !== null) return entries.changed(entry) && entries.restore(entry);
    this.comesAgain(entry.item.assignment, entry);
    this.feed.refill();
  }

  skip(reason) {
    if (!this.entry || this.reopened !== null) return;
    this.outbox.put("skip", { assignment: this.entry.item.assignment, reason });
    this.advance();
  }

  /** Only now nothing needs the draft any more: what is refused comes again with it. */
  delivered({ assignment }) {
    entries.dropDraft(assignment);
    this.feed.refill();
  }

  /** The server has what it had before: an earlier judgment, or none. */
  refused({ body }, sentence) {
    this.view.paintRefused(words("refused", { sentence }));
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
    const again = this.reopened === null ? null : { button: words(entries.changed(this.entry) ? "replace" : "leave") };
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

/** Whether they are not the ones that this page had (`shown`), or that this person, in this browser, last worked by. */
function guidelinesChanged({ id, guideline_version: current }, shown) {
  const name = `plumbline-guidelines-${id}`, before = shown ?? localStorage.getItem(name);
  try {
    localStorage.setItem(name, current);
  } catch { /* no room: after a reload they are said to have changed once more */ }
  return before !== null && Number(before) < current;
}

Object.assign(window.Plumbline, { LabelPage, label: (root) => new LabelPage(root).start() });
})();
