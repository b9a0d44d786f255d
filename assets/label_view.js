/* The label page as one sees it: everything that is drawn and painted. What happens is in label.js. */
(() => {
"use strict";
const { button, make, fill, say, count, duration, cards, keys } = window.Plumbline;

const LONGEST_NOTE = 2000;

class LabelView {
  /** `act` holds what the buttons do: submit, back, skip, choose, set, focus, noted, project, retry. */
  constructor(root, act) {
    Object.assign(this, { root, act, cards: [] });
    this.live = make("div", { class: "sr", role: "status", "aria-live": "polite" });
    this.guidelines = keys.guidelinesSheet();
    this.skip = keys.skipSheet(act.skip);
    this.keySheet = make("div");
    fill(root, this.head(), this.body(), this.bar(), this.guidelines.dialog, this.skip.dialog, this.keySheet, this.live);
    this.paintSaving("saved", 0, "");
  }

  head() {
    this.task = make("h1", "task");
    this.project = make("div", "project");
    this.fills = { team: make("i", "team"), mine: make("i", "mine") };
    this.meter = make("div", { class: "meter", role: "progressbar", "aria-label": "Prompts judged", "aria-valuemin": 0 }, this.fills.team, this.fills.mine);
    this.counts = make("span", "num small counts");
    this.open = {
      guidelines: keys.tool({ icon: "book-open", text: "Guidelines", key: "G", press: () => keys.toggle(this.guidelines.dialog) }),
      keys: keys.tool({ icon: "keyboard", text: "Keys", key: "?", press: () => keys.toggle(this.keySheet) }),
    };
    return make("div", "lhead", make("div", "where", this.project, this.task),
      make("div", "side", make("div", "progress", this.meter, this.counts), this.open.guidelines, this.open.keys));
  }

  body() {
    this.reopened = make("div", { class: "reopened", hidden: true });
    this.prompt = make("section", { class: "prompt", "aria-label": "Prompt", tabindex: "-1" });
    this.grid = make("div", "answers");
    this.state = make("section", { class: "state", hidden: true });
    return make("div", "lmain", this.reopened, this.prompt, make("h2", "sr", "Answers"), this.grid, this.state);
  }

  bar() {
    this.tray = make("div", "tray");
    this.saving = make("span", { class: "save small", role: "status" });
    this.back = keys.tool({ icon: "arrow-left", text: "Back", key: "Z", press: this.act.back });
    this.skipButton = keys.tool({ text: "Skip", key: "S", press: () => this.skip.open() });
    this.submit = keys.tool({ text: "Submit", key: "↵", press: this.act.submit, cls: "btn go submit" });
    return make("div", { class: "lbar", role: "region", "aria-label": "Your judgment" }, this.tray,
      make("div", "acts", this.saving, this.back, this.skipButton, this.submit));
  }

  /** What belongs to the project: its task, guidelines, keys, and the menu where there are several. */
  showProject(project, projects, mode) {
    this.task.textContent = project.instruction || project.name;
    this.root.dataset.mode = mode.name;
    this.guidelines.fill(cards.prose(project.guidelines_html || "<p>There are no guidelines yet. Judge by the task alone.</p>"));
    fill(this.project, projects.length > 1 ? this.projectMenu(project, projects) : make("span", "tag", project.name));
    this.showKeys(mode, this.cards.length || cards.LETTERS.length);
  }

  /** The sheet names the letters and digits that the item on the screen has. */
  showKeys(mode, n) {
    if (this.keysFor === `${mode.name} ${n}` || this.keySheet.open) return;
    this.keysFor = `${mode.name} ${n}`;
    const letters = n > 1 ? `A … ${cards.LETTERS[n - 1]}` : "A";
    const sheet = keys.keysSheet(this.root, [[letters, "Put an answer in focus"], ...mode.keyRows(n),
      ["↵", "Submit; in a text field Ctrl ↵ or ⌘ ↵"], ["Z", "Back to a judgment made before, to change it"],
      ["S", "Skip this prompt; say why if you like"], ["N", "Note on the answer in focus; Esc leaves it"],
      ["G", "Guidelines"], ["?", "This list"]]);
    this.keySheet.replaceWith(sheet);
    this.keySheet = sheet;
  }

  projectMenu(project, projects) {
    const options = projects.map((one) => make("option", { value: one.id, selected: one.id === project.id }, one.name));
    return make("select", { "aria-label": "Project", onchange: (event) => this.act.project(event.target.value) }, options);
  }

  /* ---- an item ---- */

  showItem(entry, mode) {
    const { item } = entry;
    this.setState("item");
    cards.prompt(this.prompt, item.prompt.messages);
    this.cards = item.responses.map((response, index) => this.card(response, index, entry, mode));
    this.grid.dataset.n = this.cards.length;
    this.showKeys(mode, this.cards.length);
    fill(this.grid, this.cards.map((one) => one.element));
    window.scrollTo(0, 0);
    this.prompt.focus({ preventScroll: true });
  }

  card(response, index, entry, mode) {
    const letter = cards.LETTERS[index], n = entry.item.responses.length;
    const state = make("span", "state-of");
    const group = cards.radios(`${mode.group} ${letter}`, mode.options(n), (value) => this.act.choose(index, value), `opts ${mode.name}`);
    const note = make("textarea", { class: "note", rows: 2, hidden: !entry.notes[response.id], maxlength: LONGEST_NOTE, "aria-label": `Note on answer ${letter}`,
      placeholder: "What is wrong, or missing?", value: entry.notes[response.id] ?? "", oninput: () => this.act.noted(response.id, note.value) });
    const noteButton = keys.tool({ icon: "message-square", text: "Note", key: "N", press: () => this.openNote(index), cls: "btn ghost sm mini" });
    noteButton.setAttribute("aria-label", `Note on answer ${letter}`);
    const drawn = cards.card(response, index, { head: [state, group.element], foot: [make("div", "cf", noteButton), note] });
    drawn.badge.dataset.drag = index;
    drawn.element.addEventListener("focusin", () => this.act.focus(index, { move: false }));
    drawn.element.addEventListener("pointerdown", () => this.act.focus(index, { move: false }));
    return { ...drawn, id: response.id, state, group, note };
  }

  openNote(index) {
    const { note } = this.cards[index];
    note.hidden = false;
    note.focus();
  }

  /** Paints what was said so far, the tray and the button. */
  paint(entry, mode, focus, reopened) {
    const ids = this.cards.map((card) => card.id);
    this.cards.forEach((card, index) => {
      const value = entry.answers[card.id];
      card.element.classList.toggle("on", index === focus);
      card.element.dataset.v = value ?? "";
      card.state.textContent = mode.stateOf(entry.answers, card.id);
      card.group.paint(value);
    });
    mode.tray(this.tray, entry.answers, ids);
    const { ready, text } = mode.status(entry.answers, ids);
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
    fill(this.reopened, make("span", "tag warn", "Reopened"), make("span", "", sentence));
  }

  refuse(sentence) {
    this.live.textContent = sentence;
    this.submit.classList.remove("nudge");
    void this.submit.offsetWidth; // starts the animation again
    this.submit.classList.add("nudge");
  }

  /** The server would not have a judgment: said until it is read and closed. */
  paintRefused(sentence) {
    const close = make("button", { class: "btn sm", type: "button", onclick: () => box.remove() }, "Understood");
    const box = say("bad", sentence, { ways: [close] });
    this.prompt.before(box);
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
    for (const part of [this.prompt, this.grid, this.tray, this.skipButton, this.submit]) part.hidden = !item;
    fill(this.state, words);
    if (!item && name !== "loading") this.arrived("");
  }

  /** Which state the page is in without an item, and its words; `kept` judgments wait to be sent. */
  showNothing({ error, project, progress }, kept) {
    const again = button("rotate-ccw", "Look now", this.act.retry);
    if (error?.status === 0) return this.setState("error", make("h2", "", "Offline"), make("p", "", offlineSentence(kept)), again);
    if (error) return this.setState("error", make("h2", "", "This did not work"), make("p", "", error.message), again);
    if (!project) return this.setState("none", make("h2", "", "There is nothing to judge yet"), make("p", "", "A lead makes a project on the projects page: which prompts, which versions, how to judge. It appears here by itself."));
    const judged = progress.mine ? make("p", "", `You have judged ${number(progress.mine)} of ${number(progress.total)} prompts here.`) : null;
    return this.setState("empty", make("h2", "", progress.waiting || "The next prompt is on its way."), judged, make("p", "small", "This page looks again by itself."));
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
    const time = pace && left ? `, about ${duration(pace * left)}` : "";
    this.counts.textContent = `${number(mine)} yours, ${number(team)} of ${number(progress.total)} by all, ${number(left)} left${time}`;
    this.meter.setAttribute("aria-valuemax", progress.total);
    this.meter.setAttribute("aria-valuenow", team);
    this.meter.setAttribute("aria-valuetext", this.counts.textContent);
    this.fills.team.style.width = share(team, progress.total);
    this.fills.mine.style.width = share(Math.min(mine, team), progress.total);
  }

  paintSaving(state, waiting, sentence) {
    this.saving.dataset.s = state;
    if (state === "saving") this.saving.textContent = "Saving…";
    if (state === "saved") this.saving.textContent = this.submitted ? "Saved" : "";
    if (state === "offline") this.saving.textContent = sentence || `Kept here, offline: ${count(waiting, "judgment")} to send`;
    this.submitted ||= state !== "saved";
  }
}

function offlineSentence(kept) {
  const safe = kept ? ` What you judged (${kept}) is kept in this browser and sent when it is back.` : "";
  return `Plumbline cannot be reached, and no fetched prompt is left.${safe}`;
}

const number = (n) => n.toLocaleString("en");
const share = (part, whole) => (whole ? `${(100 * part) / whole}%` : "0%");

Object.assign(window.Plumbline, { LabelView });
})();
