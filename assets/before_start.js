/* What would happen if this run started now: rows as the model reads them, checks with their ways out, memory, time.

   Preflight computes it in a process of its own; this asks for it and draws what is known so far. What was known stays,
   without colour, until something newer is, so nothing jumps while a setting is typed. */
const { make, fill, icon, button, state, say, api } = window.Plumbline;

const MARKS = { ok: ["check", "Fine"], warn: ["triangle-alert", "Warning"], bad: ["octagon-x", "Refused"] };
const COLOURS = ["m1", "m2", "m3", "m4", "m5", "m6"];
const POLL = 500; // ms
const WORST = ["bad", "warn", "ok"], SHOWN = 6; // checks that are drawn unfolded, all that are not fine among them

export class BeforeStart {
  /** `take` is given a way out that was chosen; `retry` asks again. */
  constructor(take, retry) {
    Object.assign(this, { take, retry, answer: null, local: [], row: 0, side: 0, asked: 0, known: new Map() });
    this.verdict = make("span", { class: "verdict", role: "status" });
    this.head = make("h2", { tabindex: "-1" }, "Before it starts");
    this.body = make("div", "stack body");
    this.element = make("aside", { class: "card before", "aria-label": "Before it starts" }, make("div", "row between", this.head, this.verdict), this.body);
    this.say("wait", "Reading what there is");
  }

  get refused() { return this.local.some((check) => check.kind === "bad") || ((this.current || this.part) && this.answer?.verdict?.kind === "bad"); }

  focus() { this.head.focus(); this.element.scrollIntoView({ block: "nearest" }); return true; }

  /** Something was changed: what is shown is of before. */
  old() { this.asked++; this.current = false; this.part = ""; this.element.dataset.old = "yes"; }

  /** `local` are checks that need no computing, `asked` what to compute (or nothing yet), `empty` what to say without. */
  async show({ local, wrong, asked, empty }, changed) {
    this.local = local;
    const number = ++this.asked;
    if (!asked) {
      if (!wrong) this.answer = null; // while a setting is mended, what was known stays, without colour
      this.element.dataset.old = wrong && this.answer ? "yes" : "no";
      this.judge(wrong);
      this.draw(empty, wrong);
      return changed();
    }
    const key = JSON.stringify(asked);
    if (this.known.has(key)) return this.accept(this.known.get(key), changed);
    this.judge(wrong, "Checking");
    if (!this.answer) this.draw({ sentence: "The rows are being read." }, wrong);
    await this.follow(asked, number, key, changed);
  }

  /** The page is left: a step that nobody waits for is not timed beside the run that was started. */
  leave() { if (this.following && !this.current) navigator.sendBeacon(`/api/runs/preflight/${this.following}/leave`); }

  async follow(asked, number, key, changed) {
    const { id } = await api("/api/runs/preflight", { body: asked });
    this.following = id;
    for (;;) {
      const found = await api(`/api/runs/preflight/${encodeURIComponent(id)}`);
      if (number !== this.asked || !this.element.isConnected) return;
      if (found.state === "failed") return this.fail(found.error);
      if (found.state === "ready") {
        this.known.set(key, found);
        return this.accept(found, changed);
      }
      this.judge(0, found.progress || "Checking");
      this.soFar(found);
      changed(); // a refusal is known long before a step is timed
      await new Promise((done) => setTimeout(done, POLL));
    }
  }

  /** What is known while the rest is still computed. */
  soFar(found) {
    const { rows = [], checks = [], memory, time } = found, part = JSON.stringify([rows.length, checks.length, Boolean(memory), Boolean(time)]);
    if (part === this.part || !(rows.length || checks.length)) return;
    Object.assign(this, { answer: found, part });
    this.element.dataset.old = "no";
    this.draw();
  }

  accept(found, changed) {
    if (this.answer?.rows?.length !== found.rows?.length) this.row = 0;
    Object.assign(this, { answer: found, current: true, part: "" });
    this.element.dataset.old = "no";
    this.judge(0);
    this.draw();
    changed();
  }

  /** A check that could not be made forbids nothing, but is said. */
  fail(sentence) {
    this.answer = null;
    this.element.dataset.old = "no";
    this.say("warn", "Not checked");
    fill(this.body, this.local.length > 0 && this.checks(this.local), say("warn", sentence || "The check ended early.", { lead: "This run was not checked.", ways: [button("rotate-ccw", "Check again", () => this.retry(), "btn sm")] }));
  }

  judge(wrong, working = "") {
    const bad = this.local.filter((check) => check.kind === "bad").length;
    const things = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
    if (bad) this.say("bad", `Cannot start, ${things(bad, "thing")} missing`);
    else if (wrong) this.say("bad", `Cannot start, ${things(wrong, "setting")} wrong`);
    else if (working) this.say("run", working);
    else if (this.answer) this.say(this.answer.verdict.kind, this.answer.verdict.sentence);
    else this.say("wait", "Nothing to check yet");
  }

  say(kind, words) {
    if (this.verdict.dataset.words === kind + words) return;
    this.verdict.dataset.words = kind + words;
    fill(this.verdict, state(kind, words));
  }

  // ---- drawing ----

  draw(empty = null, wrong = 0) {
    const { answer, local } = this, focused = document.activeElement?.dataset?.focus;
    const checks = [...local, ...(answer?.checks ?? [])];
    fill(this.body,
      wrong > 0 && !answer && make("p", "small mut", "What is wrong is said at the field. The rest is checked when it is mended."),
      empty && make("div", "say", icon("info"), make("p", "", empty.sentence), empty.way && make("div", "ways", button("snowflake", empty.way.label, () => this.take(empty.way), "btn sm"))),
      answer?.rows?.length > 0 && this.rows(answer.rows), checks.length > 0 && this.checks(checks),
      answer?.memory && this.memory(answer.memory), answer?.time && this.time(answer.time), untimed(answer) && this.untimed());
    if (focused) this.body.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  rows(rows) {
    const row = rows[this.row = Math.min(this.row, rows.length - 1)], answers = row.answers;
    const answer = answers[this.side = Math.min(this.side, answers.length - 1)];
    const turn = (by) => { this.row = (this.row + by + rows.length) % rows.length; this.draw(); };
    const arrow = (name, words, by) => make("button", { class: "tool", type: "button", "aria-label": words, "data-focus": words, onclick: () => turn(by) }, icon(name));
    const name = `${answer.name === "prompt" ? "Prompt" : answer.name === "text" ? "Document" : "Row"} ${row.number.toLocaleString("en")} of ${row.of.toLocaleString("en")}`;
    const sides = answers.length > 1 && make("div", { class: "seg", role: "group", "aria-label": "Answer" }, answers.map((one, place) =>
      make("button", { type: "button", "aria-pressed": String(place === this.side), "data-focus": `side-${place}`, onclick: () => { this.side = place; this.draw(); } }, capital(one.name))));
    return make("div", "", make("div", "row between rowhead", make("h3", { "aria-live": "polite" }, name),
      make("div", "row gap4", sides, rows.length > 1 && [arrow("chevron-left", "Previous row", -1), arrow("chevron-right", "Next row", 1)])), tokens(answer), summary(answer),
      row.fault && make("p", "small rowfault", `This row is left out: ${row.fault}.`));
  }

  checks(checks) {
    const item = (check) => {
      const [name, word] = MARKS[check.kind];
      return make("li", check.kind, icon(name), make("span", check.kind === "ok" ? "" : "b", check.title), make("span", "w num", `${check.figure ? `${check.figure} · ` : ""}${word}`),
        check.detail && make("p", "why", check.detail),
        check.ways_out?.length > 0 && make("div", "way", check.ways_out.map((way) => button(null, way.label, () => this.take(way), "btn sm"))));
    };
    const order = [...checks].sort((one, other) => WORST.indexOf(one.kind) - WORST.indexOf(other.kind));
    const shown = Math.max(SHOWN, order.filter((check) => check.kind !== "ok").length), rest = order.slice(shown);
    const fold = rest.length > 1 && make("details", { open: this.unfolded, ontoggle: (event) => { this.unfolded = event.target.open; } },
      make("summary", { "data-focus": "fine" }, icon("chevron-right"), `${rest.length} more, all fine`), make("ul", "chk", rest.map(item)));
    return make("div", "", make("h3", "", "Checks"), make("ul", "chk", (fold ? order.slice(0, shown) : order).map(item)), fold);
  }

  /** {used: "19.9 GB", of: "of 24 on cpu"}: in MB below 2 GB, where gigabytes would be noughts. */
  size({ parts, total_mb: total, device }) {
    const used = sum(parts);
    return { used: used < 2048 ? `${Math.round(used)} MB` : `${gigabytes(used)} GB`, of: total ? `of ${gigabytes(total)} GB on this ${device === "cpu" ? "machine" : "GPU"}` : "of memory" };
  }

  memory(memory) {
    const { parts, total_mb: total, available_mb: available } = memory, used = sum(parts), whole = Math.max(total || used, used);
    const small = used < 2048, show = (mb) => (small ? Math.round(mb).toLocaleString("en") : gigabytes(mb)), unit = small ? "MB" : "GB";
    const drawn = parts.filter((part) => part.mb > 0);
    const colour = (part) => `var(--${COLOURS[drawn.indexOf(part) % COLOURS.length]})`;
    const scale = small ? used : whole; // a tiny model in a large machine would be a bar without a part
    const free = Math.max(0, whole - used);
    const words = `${parts.map((part) => `${part.name} ${show(part.mb)} ${unit}`).join(", ")}; ${show(used)} ${unit} of ${gigabytes(whole)} GB`;
    const key = (cls, style, name, value) => make("div", { class: cls, style }, make("span", "", name), make("span", "", value));
    return make("div", "", make("div", "row between memhead", make("h3", "", "Memory"), make("span", "small num", make("b", "", `${show(used)}${small ? " MB" : ""}`), ` of ${gigabytes(whole)} GB`)),
      make("div", { class: used > (available || whole) ? "mem over" : "mem", role: "img", "aria-label": words }, drawn.map((part) => make("i", { style: `width:${(100 * part.mb) / scale}%;background:${colour(part)}` }))),
      make("div", "memk", parts.map((part) => key(part.mb > 0 ? "" : "off", part.mb > 0 && `--c:${colour(part)}`, part.name, part.mb > 0 ? show(part.mb) : "none")),
        key("off", "", "Free", small ? `${gigabytes(available || free)} GB` : gigabytes(available ? Math.max(0, available - used) : free))));
  }

  untimed() { return make("div", "row between time", make("h3", "", "Time"), make("p", "small mut", "not measured; the run tells it after its first steps")); }

  time(time) {
    const [steps, whole] = time.words.split(" = ");
    return make("div", "row between time", make("h3", "", "Time"), make("p", "small", steps, whole && [" = ", make("b", "", whole)], time.measured_on && `, measured on ${time.measured_on}`));
  }
}

// ---- tokens: grey is only read, coloured is learned, what begins and ends is boxed and named ----

function tokens(answer) {
  const drawn = answer.tokens.map((token) => make("span", `tk${token.in_loss ? " in" : ""}${token.special ? " x" : ""}${token.cut ? " cut" : ""}`, token.text, token.special && make("i", "", token.special)));
  const text = (inLoss) => answer.tokens.filter((token) => Boolean(token.in_loss) === inLoss).map((token) => token.text.replaceAll("·", " ")).join("");
  const spoken = [["Only read:", text(false)], ["In the loss:", text(true)]].filter(([, words]) => words).map(([lead, words]) => `${lead} ${words}`).join(" ");
  return make("div", { class: "toks", tabindex: "0", role: "group", "aria-label": "The row as the model reads it" }, make("p", "sr", spoken), make("div", { "aria-hidden": "true" }, drawn));
}

function summary({ name, in_loss: learned, read, cut }) {
  const mark = (cls, n) => make("span", `tk sum ${cls}`, `${n.toLocaleString("en")} ${n === 1 ? "token" : "tokens"}`);
  const end = cut ? [" ", mark("cut", cut), " at the end are cut off."] : [];
  if (name === "prompt") return make("p", "small mut tsum", mark("", read || learned), " of prompt are only read; the answers are written during the run.", end);
  if (!read) return make("p", "small mut tsum", mark("in", learned), " are in the loss, all of them.", end);
  return make("p", "small mut tsum", mark("in", learned), " are in the loss; ", mark("", read), ` of prompt ${read === 1 ? "is" : "are"} only read.`, end);
}

const untimed = (answer) => answer?.state === "ready" && !answer.time && answer.verdict?.kind !== "bad";
const capital = (word) => word[0].toUpperCase() + word.slice(1);
const sum = (parts) => parts.reduce((all, part) => all + part.mb, 0);
const gigabytes = (mb) => (mb / 1024 >= 100 ? Math.round(mb / 1024) : (mb / 1024).toFixed(1).replace(/\.0$/, "")).toLocaleString("en");
