/* The label page as one sees it: everything that is drawn and painted. What happens is in label.js. */
(() => {
"use strict";
const { button, make, fill, say, cards, keys, beside, words, AnswerCard, SideBySide, canScroll } = window.Plumbline;

class LabelView {
  /** `act` holds what the buttons do: submit, back, skip, project, retry, toggle, differences, and what a card needs. */
  constructor(root, act) {
    Object.assign(this, { root, act, cards: [], side: new SideBySide() });
    this.isPreview = root.classList.contains("preview"); // part of another page, which keeps its place and its focus
    words.use(root);
    this.live = make("div", { class: "sr", role: "status", "aria-live": "polite" });
    this.guidelines = keys.guidelinesSheet();
    this.skip = keys.skipSheet(act.skip);
    this.keySheet = make("div");
    fill(root, this.head(), this.body(), this.bar(), this.guidelines.dialog, this.skip.dialog, this.keySheet, this.live);
    this.paintSaving("saved", 0, "");
  }

  head() {
    this.task = make("h1", { class: "task", dir: "auto" });
    this.project = make("div", "project");
    this.fills = { team: make("i", "team"), mine: make("i", "mine") };
    this.meter = make("div", { class: "meter", role: "progressbar", "aria-label": words("judged_meter"), "aria-valuemin": 0 }, this.fills.team, this.fills.mine);
    this.counts = make("span", "num small counts");
    this.differences = keys.tool({ icon: "diff", text: words("differences"), key: "X", press: this.act.differences });
    this.open = {
      guidelines: keys.tool({ icon: "book-open", text: words("guidelines"), key: "G", press: () => this.toggleGuidelines() }),
      keys: keys.tool({ icon: "keyboard", text: words("keys"), key: "?", press: () => keys.toggle(this.keySheet) }),
    };
    return make("div", "lhead", make("div", "where", this.project, this.task),
      make("div", "side", make("div", "progress", this.meter, this.counts), this.differences, this.open.guidelines, this.open.keys, languageMenu()));
  }

  body() {
    this.reopened = make("div", { class: "reopened", hidden: true });
    this.prompt = make("section", { class: "prompt", "aria-label": words("prompt"), tabindex: "-1" });
    this.grid = make("div", "answers");
    this.beside = make("div", "beside");
    this.state = make("section", { class: "state", hidden: true });
    return make("div", "lmain", this.reopened, this.prompt, make("h2", "sr", words("answers")), this.grid, this.beside, this.state);
  }

  bar() {
    this.tray = make("div", "tray");
    this.saving = make("span", { class: "save small", role: "status" });
    this.back = keys.tool({ icon: "arrow-left", text: words("back"), key: "Z", press: this.act.back });
    this.skipButton = keys.tool({ text: words("skip"), key: "S", press: () => this.skip.open() });
    this.submit = keys.tool({ text: words("submit"), key: "↵", press: this.act.submit, cls: "btn go submit" });
    return make("div", { class: "lbar", role: "region", "aria-label": words("your_judgment") }, this.tray,
      make("div", "acts", this.saving, this.back, this.skipButton, this.submit));
  }

  /** What belongs to the project: its task, guidelines, keys, and the menu where there are several. */
  showProject(project, projects, mode) {
    this.prepared = null;
    this.task.textContent = project.instruction || project.name;
    this.criteria = project.criteria;
    this.chips = beside.chips(this.beside, project, this.act.toggle);
    this.root.dataset.mode = mode.name;
    this.guidelines.fill(project.guidelines_html ? cards.prose(project.guidelines_html) : make("p", "", words("guidelines_missing")));
    fill(this.project, projects.length > 1 ? this.projectMenu(project, projects) : make("span", { class: "tag", dir: "auto" }, project.name));
    this.reasons = project.reasons.length;
    this.showKeys(mode, this.cards.length || cards.LETTERS.length);
  }

  /** The sheet names the letters and digits that the item on the screen has. */
  showKeys(mode, n) {
    const shown = [mode.name, n, this.criteria.length, this.reasons].join(" ");
    if (this.keysFor === shown || this.keySheet.open) return;
    this.keysFor = shown;
    const letters = n > 1 ? `A … ${cards.LETTERS[n - 1]}` : "A";
    const sheet = keys.keysSheet(this.root, [[letters, words("key_letter")], ...mode.keyRows(n),
      ...(this.criteria.length ? [["V", words("key_score")]] : []),
      ...(this.reasons ? [[beside.reasonKeys(this.reasons), words("key_reasons")]] : []), ["U P W", words("key_flags")],
      ...(n > 1 ? [["X", words("key_differences")], ["PgDn PgUp", words("key_scroll")]] : []),
      ["R", words("key_rewrite")], ["N", words("key_note")], ["↵", words("key_submit")], ["Z", words("key_back")],
      ["S", words("key_skip")], ["G", words("key_guidelines")], ["?", words("key_list")]]);
    this.keySheet.replaceWith(sheet);
    this.keySheet = sheet;
  }

  projectMenu(project, projects) {
    const options = projects.map((one) => make("option", { value: one.id, selected: one.id === project.id }, one.name));
    return make("select", { "aria-label": words("project"), onchange: (event) => this.act.project(event.target.value) }, options);
  }

  /* ---- an item ---- */

  showItem(entry, mode) {
    const { item } = entry;
    this.announced = "";
    this.letGo();
    this.setState("item");
    cards.prompt(this.prompt, item.prompt.messages);
    this.cards = this.takePrepared(entry) ?? this.cardsOf(entry, mode);
    this.grid.dataset.n = this.cards.length;
    this.grid.style.setProperty("--criteria", this.criteria.length);
    this.showKeys(mode, this.cards.length);
    fill(this.grid, this.cards.map((one) => one.element));
    this.side.show(this.cards);
    this.paintDifferences();
    if (!this.isPreview) requestAnimationFrame(() => this.toTop());
  }

  /** Takes the keyboard off the cards, before anything else changes: a part that is removed with it lays out the page. */
  letGo() {
    if (this.grid.contains(document.activeElement)) document.activeElement.blur();
  }

  cardsOf(entry, mode) {
    return entry.item.responses.map((response, index) => new AnswerCard(response, index, entry, mode, this.criteria, this.act));
  }

  /** Makes the cards of the item that comes next, while another is read. */
  prepare(entry, mode) {
    this.prepared = { entry, cards: this.cardsOf(entry, mode) };
  }

  takePrepared(entry) {
    const { prepared } = this;
    this.prepared = null;
    return prepared?.entry === entry ? prepared.cards : null;
  }

  /** `reference` is the answer that all others are compared with. Returns whether they are now. */
  toggleDifferences(reference) {
    this.side.toggle(reference);
    this.paintDifferences();
    return this.side.on;
  }

  /** A page on in the answers, unless the keyboard is on a prompt that has more to show; false where nothing moved. */
  scroll(direction) {
    const readsPrompt = document.activeElement === this.prompt && canScroll(this.prompt, direction);
    return !readsPrompt && this.side.scroll(direction);
  }

  paintDifferences() {
    this.differences.hidden = !this.side.possible;
    this.differences.setAttribute("aria-pressed", String(this.side.on));
  }

  /** Just before the item is painted, when it is laid out anyway: earlier, it would be laid out twice. */
  toTop() {
    window.scrollTo(0, 0);
    this.prompt.focus({ preventScroll: true });
  }

  /** Paints what was said so far, the tray and the button. */
  paint(entry, mode, focus, reopened) {
    const ids = this.cards.map((card) => card.id);
    this.cards.forEach((card, index) => card.paint(entry, mode, index === focus));
    this.chips.paint(entry);
    mode.tray(this.tray, entry, ids, this.act.choose);
    const { ready, text } = mode.status(entry, ids);
    this.submit.setAttribute("aria-disabled", String(!ready));
    this.submit.querySelector("span").textContent = reopened ? reopened.button : text;
  }

  /** Puts the keyboard on a card too, so that Tab and the screen reader go on from there. */
  moveTo(index) {
    const { element } = this.cards[index];
    element.focus({ preventScroll: true });
    const { top, bottom } = element.getBoundingClientRect();
    if (top > window.innerHeight - 220 || bottom < 120) element.scrollIntoView({ block: "start" }); // else nothing moves
  }

  paintReopened(sentence) {
    this.reopened.hidden = !sentence;
    fill(this.reopened, make("span", "tag warn", words("reopened")), make("span", "", sentence));
  }

  refuse(sentence) {
    this.live.textContent = sentence;
    this.submit.classList.remove("nudge");
    void this.submit.offsetWidth; // starts the animation again
    this.submit.classList.add("nudge");
  }

  /** The server would not have a judgment: said until it is read and closed. */
  paintRefused(sentence) {
    const close = make("button", { class: "btn sm", type: "button", onclick: () => box.remove() }, words("understood"));
    const box = say("bad", sentence, { ways: [close] });
    this.prompt.before(box);
  }

  /** Said until they were opened. */
  paintChangedGuidelines() {
    this.unread?.remove();
    const read = make("button", { class: "btn sm", type: "button", onclick: () => this.toggleGuidelines() }, words("read_now"));
    this.unread = say("warn", words("guidelines_changed"), { ways: [read] });
    this.prompt.before(this.unread);
  }

  toggleGuidelines() {
    this.unread?.remove();
    keys.toggle(this.guidelines.dialog);
  }

  say(sentence) {
    this.live.textContent = sentence;
  }

  /* ---- around it ---- */

  /** "item", "empty", "none", "error" or "loading"; all but "item" come with what to show instead. */
  setState(name, ...content) {
    const item = name === "item", words = make("div", "empty", content);
    if (this.root.dataset.state === name && this.state.textContent === words.textContent) return; // keeps the focus
    this.root.dataset.state = name;
    this.state.hidden = item;
    for (const part of [this.prompt, this.grid, this.beside, this.tray, this.skipButton, this.submit, this.differences]) part.hidden = !item;
    fill(this.state, words);
    if (!item && name !== "loading") this.arrived("");
  }

  /** Which state the page is in without an item, and its words; `kept` judgments wait to be sent. */
  showNothing({ error, project, progress }, kept) {
    const again = button("rotate-ccw", words("look_now"), this.act.retry);
    const offline = kept ? "offline_kept" : "offline_empty";
    if (error?.status === 0) return this.nothing("error", offline, words("offline"), [words(offline, { n: kept })], again);
    if (error) return this.nothing("error", "failed", words("failed"), [words.error(error)], again);
    if (!project) return this.nothing("none", "", words("nothing"), [words("nothing_how")]);
    const why = kept ? [] : progress.why; // what is being sent may change it
    const judged = progress.mine ? [words("judged_here", { n: progress.mine })] : [];
    return this.nothing("empty", why.map(({ code }) => code).join(" "), why.map(words.said).join(" ") || words("on_its_way"), judged,
      make("p", "small", words("looks_again")));
  }

  /** Read aloud where the reason is another one than before; the words alone change often, as a time in them runs down. */
  nothing(state, reason, title, sentences, ...further) {
    const announced = `${state} ${reason}`;
    this.setState(state, make("h2", { dir: "auto" }, title), sentences.map((one) => make("p", { dir: "auto" }, one)), further);
    if (this.announced !== announced) this.say([title, ...sentences].join(" "));
    this.announced = announced;
  }

  /** For whoever waits for the page: the item that is on the screen, or "" for none. */
  arrived(assignment) {
    this.root.dataset.item = assignment;
    this.root.classList.add("ready");
  }

  paintBack(possible, skippable) {
    this.back.disabled = !possible;
    this.skipButton.disabled = !skippable;
  }

  /** `extra` judgments are not in the server's numbers yet; `pace` is seconds a prompt, or null while too few are known. */
  paintProgress(progress, extra, pace) {
    const mine = progress.mine + extra, team = Math.min(progress.total, progress.team + extra), left = progress.total - team;
    const time = pace && left ? words("progress_time", { time: words.duration(pace * left) }) : "";
    this.counts.textContent = words("progress", { mine, team, total: progress.total, left, time });
    this.meter.setAttribute("aria-valuemax", progress.total);
    this.meter.setAttribute("aria-valuenow", team);
    this.meter.setAttribute("aria-valuetext", this.counts.textContent);
    this.fills.team.style.width = share(team, progress.total);
    this.fills.mine.style.width = share(Math.min(mine, team), progress.total);
  }

  paintSaving(state, waiting, sentence) {
    this.saving.dataset.s = state;
    if (state === "saving") this.saving.textContent = words("saving");
    if (state === "saved") this.saving.textContent = this.submitted ? words("saved") : "";
    if (state === "offline") this.saving.textContent = words(sentence ? "kept_because" : "kept_offline", { n: waiting, sentence });
    this.submitted ||= state !== "saved";
  }
}

/** The languages there are, each by its own name. */
function languageMenu() {
  const options = Object.entries(words.all).map(([name, one]) => make("option", { value: name, lang: name, selected: name === words.current() }, one.name));
  return make("select", { class: "language", "aria-label": words("language"), onchange: (event) => words.change(event.target.value) }, options);
}

const share = (part, whole) => (whole ? `${(100 * part) / whole}%` : "0%");

Object.assign(window.Plumbline, { LabelView });
})();
