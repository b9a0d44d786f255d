/* The new-run page: what is proposed, the method, what it learns from, its settings, and what would happen.

   Everything it shows comes with one answer of the server, so each choice draws at once. A value is what the person typed;
   else what the parent has fixed, what is proposed for the preset, or the default of the class, in this order. */
(() => {
"use strict";
const { make, fill, icon, button, say, duration, api } = window.Plumbline;

const PRESETS = [["quick", "Quick"], ["balanced", "Balanced"], ["thorough", "Thorough"]];

window.Plumbline.newRun = async (root) => {
  root.classList.add("page", "new-run");
  const [fields, card] = await Promise.all([import("/ui/run_fields.js"), import("/ui/before_start.js")]);
  const page = new NewRun(root, fields, card);
  try { await page.open(); } catch (error) { page.complain(error); }
  root.dataset.ready = "yes";
};

class NewRun {
  constructor(root, fields, card) {
    Object.assign(this, { root, fields, preset: "balanced", typed: {}, launch: {}, snapshots: {}, of: { project: "", source: "" }, faults: {}, steps: {}, checks: 0 });
    const asked = new URLSearchParams(location.search);
    Object.assign(this, { asked, fate: make("span", { class: "mut small fate", role: "status" }), notice: make("div", "notice") });
    this.go = button("play", "Start run", () => this.start(), "btn go");
    this.go.id = "start";
    window.addEventListener("pagehide", () => this.before.leave());
    this.before = new card.BeforeStart((way) => this.take(way), () => this.form && this.again(0));
    this.parts = { advice: section("Proposal", "adv"), methods: section("Method"), data: section("What it learns from"), settings: section("Settings") };
    fill(root,
      make("div", "head nr-head", make("div", "row", make("a", { class: "btn ghost sm back", href: "/runs" }, icon("chevron-left"), "Runs"), make("h1", "", "New run")),
        make("div", "acts", this.fate, this.go)),
      this.notice, this.two = make("div", { class: "two", hidden: true }, make("div", "stack", Object.values(this.parts)), this.before.element));
  }

  async open() {
    const like = this.asked.get("from");
    this.form = await api(`/api/new-run${like ? `?like=${encodeURIComponent(like)}` : ""}`).catch((error) => {
      if (error.status !== 404) throw error;
      this.complain(error); // the run to begin from is gone; the form is of use without it
      return api("/api/new-run");
    });
    this.parent = this.form.parents.some((one) => one.id === this.asked.get("parent")) ? this.asked.get("parent") : this.form.parent;
    const wanted = this.form.methods.find((one) => one.name === this.asked.get("method"));
    this.name = wanted?.name ?? this.form.advice.method;
    if (this.form.like) this.begin(this.form.like, `The settings of ${this.form.like.id}.`);
    this.draw();
    this.two.hidden = false; // until now its cards were empty, and filling them one by one would make the page jump
    this.again(0);
  }

  get method() { return this.form.methods.find((one) => one.name === this.name); }
  get version() { return this.form.parents.find((one) => one.id === this.parent); }
  get place() { return this.method.data_title === "Judgments of" ? "project" : "source"; }

  /** The snapshot chosen for this kind of rows; the newest until another is. */
  get snapshot() {
    const chosen = this.snapshots[this.method.reads_type];
    return this.method.snapshots.some((one) => one.id === chosen) ? chosen : (this.method.snapshots[0]?.id ?? "");
  }

  // ---- values ----

  proposed(preset = this.preset) {
    const tuning = this.typed[this.name]?.tuning ?? "lora";
    const by = this.version?.proposals[this.name] ?? {};
    return (by[tuning] ?? Object.values(by)[0])?.[preset] ?? {};
  }

  /** What the form proposes for a field, whatever was typed. */
  offered(field, preset) {
    const offered = this.proposed(preset)[field.name];
    if (field.choices_from === "reward_models") return this.form.reward_models[0]?.id ?? "";
    return offered === undefined ? field.default : offered;
  }

  fixed(field) { return field.only_for.tuning || ["lora_rank", "lora_alpha"].includes(field.name) ? this.version?.fixed[field.name] : undefined; }

  value(field, preset) {
    const typed = this.typed[this.name]?.[field.name];
    return typed !== undefined ? typed : (this.fixed(field) ?? this.offered(field, preset));
  }

  /** Whether a field does anything, as the other fields stand. */
  applies(field, fields = this.method.fields, value = (other) => this.value(other)) {
    return Object.entries(field.only_for).every(([other, allowed]) => {
      const asked = fields.find((one) => one.name === other);
      return !asked || allowed.includes(value(asked));
    });
  }

  settings(preset) {
    return Object.fromEntries(this.method.fields.filter((field) => this.applies(field)).map((field) => [field.name, this.value(field, preset)]));
  }

  launchValue(field) { return this.launch[field.name] ?? (field.choices_from === "devices" || field.name === "device" ? (field.default || this.form.launch.devices[0]?.id) : field.default); }

  launchSettings() {
    const { fields } = this.form.launch, value = (field) => this.launchValue(field);
    return Object.fromEntries(fields.filter((field) => this.applies(field, fields, value)).map((field) => [field.name, value(field)]));
  }

  /** A field was filled by the person. What equals the proposal is not theirs. */
  type(field, value) {
    const mine = (this.typed[this.name] ??= {});
    if (value === (this.fixed(field) ?? this.offered(field))) delete mine[field.name]; else mine[field.name] = value;
    this.paint();
    this.again(300);
  }

  /** Fills the form from a file or another run; what it does not name is as proposed. */
  begin({ method, settings, launch, snapshot_id: snapshot, parent_id: parent }, words) {
    this.name = method;
    if (parent && this.form.parents.some((one) => one.id === parent)) this.parent = parent;
    if (snapshot) this.snapshots[this.method.reads_type] = snapshot;
    this.typed[method] = {};
    const order = [...this.method.fields].sort((one) => (one.name === "tuning" ? -1 : 0)); // what is proposed depends on it
    for (const field of order) if (field.name in settings && settings[field.name] !== this.offered(field)) this.typed[method][field.name] = settings[field.name];
    this.launch = { ...launch };
    this.tell("ok", `${words} Look them over before you start.`);
  }

  // ---- choices ----

  choose(name) {
    this.name = name;
    this.pace = null;
    this.steps = {};
    this.faults = {};
    this.drawMethods();
    this.drawData();
    this.drawSettings();
    this.again(0);
  }

  choosePreset(preset) {
    this.preset = preset;
    const kept = this.method.fields.filter((field) => field.name !== "tuning" && this.typed[this.name]?.[field.name] !== undefined && field.name in this.proposed());
    this.status.textContent = kept.length ? `Kept what you typed: ${kept.map((field) => field.title).join(", ")}.` : "";
    this.paint();
    this.again(0);
  }

  chooseParent(id) { this.parent = id; this.paint(); this.drawAdvice(); this.notes(); this.again(0); }
  chooseSnapshot(id) { this.snapshots[this.method.reads_type] = id; this.notes(); this.again(0); }

  /** A way out of a check: it changes the form as the person would have. */
  take({ settings = {}, method, snapshot_id: snapshot, freeze, href }) {
    if (href) return location.assign(href);
    if (freeze) return this.freeze();
    if (method && method !== this.name) this.choose(method);
    if (snapshot) { this.snapshots[this.method.reads_type] = snapshot; this.drawData(); }
    for (const [name, value] of Object.entries(settings)) {
      const field = this.method.fields.find((one) => one.name === name);
      if (field) (this.typed[this.name] ??= {})[name] = value;
    }
    this.paint();
    this.again(0);
    this.before.focus();
  }

  async freeze() {
    this.freezing.disabled = true;
    try {
      const made = await api("/api/new-run/freeze", { body: { method: this.name, of: this.of[this.place] } });
      this.snapshots[this.method.reads_type] = made.id;
      await this.reload();
      this.sayFrozen(made.sentence);
    } catch (error) { this.sayFrozen(error.message, "fault"); }
    this.freezing.disabled = false;
    this.freezing.focus();
  }

  sayFrozen(sentence, cls = "") { this.frozen.className = `help ${cls}`; this.frozen.textContent = sentence; }

  async reload() {
    this.form = await api(`/api/new-run?${new URLSearchParams(this.of)}`);
    this.drawAdvice();
    this.drawMethods();
    this.drawData();
    this.again(0);
  }

  async start() {
    if (this.refused()) return this.before.focus() || this.root.querySelector("[aria-invalid=true]")?.focus();
    this.go.setAttribute("aria-disabled", "true");
    this.starting = true;
    try {
      const body = { method: this.name, settings: this.settings(), launch: this.launchSettings(), snapshot_id: this.snapshot, parent_id: this.parent ?? "" };
      const made = await api("/api/new-run/start", { body });
      location.assign(`/runs?run=${encodeURIComponent(made.id)}`);
    } catch (error) {
      this.starting = false;
      this.complain(error);
      this.paintFate();
    }
  }

  tell(kind, sentence) { fill(this.notice, say(kind, sentence)); this.notice.scrollIntoView({ block: "nearest" }); }
  complain(error) { this.tell("bad", error.message); }

  // ---- what is checked: by the class at once, by preflight in a process of its own ----

  again(wait) {
    clearTimeout(this.timer);
    this.before.old();
    this.paintFate();
    this.timer = setTimeout(() => this.check(), wait);
  }

  async check() {
    const number = ++this.checks;
    const presets = Object.fromEntries(PRESETS.map(([name]) => [name, this.settings(name)]));
    const body = { method: this.name, settings: this.settings(), launch: this.launchSettings(), rows: this.counted?.id === this.snapshot ? this.counted.rows : this.method.rows, presets };
    try {
      const found = await api("/api/new-run/check", { body });
      if (number !== this.checks) return;
      Object.assign(this, { faults: { ...found.faults, ...prefixed(found.launch_faults) }, steps: found.steps });
      this.paint();
      const local = this.missing();
      const ready = !Object.keys(this.faults).length && this.snapshot && this.parent;
      const asked = ready && { method: this.name, settings: this.settings(), snapshot_id: this.snapshot, parent_id: this.parent, launch: this.launchSettings() };
      await this.before.show({ local, wrong: Object.keys(this.faults).length, asked, empty: this.emptyWords() }, () => number === this.checks && this.follow());
    } catch (error) { if (number === this.checks) this.before.fail(error.message); }
    this.paintFate();
  }

  /** Preflight has said something new. */
  follow() {
    const { current, answer } = this.before, steps = this.steps[this.preset];
    if (current && answer?.time && steps) this.pace = answer.time.seconds / steps;
    this.paintFate();
    this.paintPresets();
    this.paintFigures();
  }

  /** What stands in the way before anything is computed, with the ways out. */
  missing() {
    const { method } = this, { advice, methods } = this.form, found = [];
    const instead = advice.ready && advice.method !== this.name ? [{ label: `Use ${methods.find((one) => one.name === advice.method).title} instead`, method: advice.method }] : [];
    const trains = methods.find((one) => one.makes === "reward_model");
    const reward = method.fields.find((one) => one.name === "reward_model");
    if (method.asks_reward_model && !this.value(reward)) found.push({ kind: "bad", title: "Nothing to score the answers", figure: "0 of 1",
      detail: `${method.title} asks a reward model how good each try is, or a function or judge of this server: choose one under ${reward.title}.` + (trains && !trains.missing ? ` Your ${trains.rows.toLocaleString("en")} ${trains.rows_are} are enough to train one.` : ""),
      ways_out: [...(trains && !trains.missing ? [{ label: "Train a reward model first", method: trains.name }] : []), ...instead] });
    if (!this.parent) found.push({ kind: "bad", title: "No version to start from", figure: "0 of 1", detail: "Add a base model first.", ways_out: [{ label: "Open the models page", href: "/models" }] });
    if (!this.snapshot && method.missing && method.missing !== "No reward model") found.push({ kind: "bad", title: short(method.missing), figure: method.missing.length > 28 ? "" : method.reads.replace("reads ", ""), // a long one brings its own figures
      detail: method.missing.length > 28 ? method.missing : "Label or import more, or choose a method that learns from what there is.", ways_out: instead });
    return found;
  }

  emptyWords() {
    const { method } = this;
    if (this.snapshot || (method.missing && method.missing !== "No reward model")) return null;
    return { sentence: `A run learns from a frozen copy. Freeze the ${method.rows.toLocaleString("en")} ${method.rows_are} there are now, and the rows are shown here as the model will read them.`,
      way: { label: "Freeze a snapshot", freeze: true } };
  }

  refused() { return Object.keys(this.faults).length > 0 || this.missing().length > 0 || !this.snapshot || this.before.refused; }

  onlyToFreeze() { return !this.snapshot && !Object.keys(this.faults).length && !this.missing().length; }

  // ---- drawing ----

  draw() { this.drawAdvice(); this.drawMethods(); this.drawData(); this.drawSettings(); }

  drawAdvice() {
    const { advice } = this.form, same = advice.method === this.name && this.parent === this.form.parent;
    this.memory = figure("…", "memory"), this.time = figure("…", "until it can answer");
    const use = advice.ready ? button(null, "Use it", () => { this.parent = this.form.parent; this.choose(advice.method); this.drawAdvice(); }, "btn sm")
      : make("div", "row", make("a", { class: "btn sm", href: "/label" }, "Label prompts"), make("a", { class: "btn sm", href: "/data" }, "Import rows"));
    if (advice.ready && same) use.style.visibility = "hidden";
    fill(this.parts.advice, make("div", "row", make("h2", "", advice.title), make("span", advice.ready ? "tag" : "tag warn", advice.ready ? "Proposed" : "Not yet"), use),
      make("p", "", advice.why),
      make("div", "facts", advice.figures.map(([value, words]) => figure(value, words)), advice.ready && [this.memory, this.time]));
    this.paintFigures();
  }

  /** Memory and time of the proposal, once preflight has said them; they stay when another method is looked at. */
  paintFigures() {
    const { advice } = this.form, known = this.before.current ? this.before.answer : null;
    if (advice.ready && advice.method === this.name && this.parent === this.form.parent && known?.memory) this.known = known;
    for (const one of [this.memory, this.time]) one.style.visibility = this.known || advice.method === this.name ? "" : "hidden";
    if (!this.known) return;
    const { used, of } = this.before.size(this.known.memory);
    fill(this.memory, make("b", "", used), make("span", "", of));
    const { time, state } = this.known, words = time ? duration(time.seconds) : state === "ready" ? "?" : "…";
    fill(this.time, make("b", "", words), make("span", "", time || state !== "ready" ? "until it can answer" : "until it can answer; not timed"));
  }

  drawMethods() {
    const { methods, advice } = this.form, focused = this.parts.methods.contains(document.activeElement);
    const group = make("div", { class: "meth", role: "radiogroup", "aria-label": "Method" },
      methods.map((one) => this.methodCard(one, one.name === this.name, advice.ready && one.name === advice.method)));
    group.addEventListener("keydown", (event) => this.move(event, group));
    fill(this.parts.methods, make("div", "ct", make("h2", "", "Method"), make("span", "mut small", "The data decides what is possible; you decide what is wanted.")), group);
    if (focused) group.querySelector("[aria-checked=true]").focus();
    this.parts.advice.querySelector("button")?.style.setProperty("visibility", advice.method === this.name && this.parent === this.form.parent ? "hidden" : "visible");
  }

  methodCard(one, isChosen, isAdvised) {
    const kind = one.missing === "No reward model" ? "bad" : one.missing || one.warning ? "warn" : isAdvised ? "acc" : "";
    const word = one.missing ? short(one.missing) : isAdvised ? "Proposed" : one.warning || "Possible";
    return make("button", { class: "m", type: "button", role: "radio", "aria-checked": String(isChosen), tabindex: isChosen ? "0" : "-1", title: one.missing.length > 28 && one.missing, onclick: () => isChosen || this.choose(one.name) },
      make("span", "t", make("span", "", one.title), make("span", `w ${kind}`, word)), make("span", "d", one.sentence),
      make("span", "h", one.reads));
  }

  move(event, group) {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const all = [...group.children];
    all.at((all.indexOf(document.activeElement) + way) % all.length).click();
  }

  drawData() {
    const { method } = this;
    const snapshot = this.fields.picker({ id: "snapshot", label: "Snapshot", help: "A frozen copy; what is judged or imported later does not change this run.",
      choices: method.snapshots.length ? method.snapshots : [{ id: "", words: "None yet" }], value: this.snapshot, pick: (id) => this.chooseSnapshot(id) });
    const of = this.fields.picker({ id: "of", label: method.data_title, help: "What the next snapshot is frozen from, as it is at that moment.", choices: method.data, value: this.of[this.place],
      pick: (id) => { this.of[this.place] = id; this.reload().catch((error) => this.complain(error)); } });
    this.freezing = button("snowflake", "Freeze a snapshot now", () => this.freeze());
    this.freezing.id = "freeze";
    this.frozen = make("p", { class: "help", id: "said", role: "status" });
    this.counts = make("div", "counted");
    fill(this.parts.data, make("div", "ct", make("h2", "", "What it learns from"), make("span", "mut small", `${method.title} ${method.reads}.`)),
      make("div", "fields data", snapshot, of, make("div", "f freeze", make("span", { class: "label", "aria-hidden": "true" }, "New snapshot"), this.freezing, this.frozen)), this.counts);
    this.notes();
  }

  async notes() {
    const id = this.snapshot;
    if (!id) { this.counted = null; return fill(this.counts); }
    try {
      const query = new URLSearchParams({ parent: this.parent ?? "", of: this.of[this.place] });
      const snapshot = await api(`/api/new-run/snapshots/${encodeURIComponent(id)}?${query}`);
      if (id !== this.snapshot) return;
      const news = this.counted?.rows !== snapshot.rows;
      this.counted = snapshot;
      const open = this.counts.querySelector("details")?.open;
      fill(this.counts, this.fields.counted(snapshot, open));
      if (news) this.again(0);
    } catch (error) { this.complain(error); }
  }

  drawSettings() {
    const { method, fields } = this;
    const open = this.parts.settings.querySelectorAll("details");
    const wasOpen = [...open].map((one) => one.open);
    this.presets = make("div", { class: "seg", role: "group", "aria-label": "Preset" },
      PRESETS.map(([name, word]) => make("button", { type: "button", "data-preset": name, onclick: () => this.choosePreset(name) }, word)));
    this.parentPicker = fields.picker({ id: "parent", label: "Start from", help: "The version that is improved. It stays as it is.", choices: this.form.parents, value: this.parent, pick: (id) => this.chooseParent(id) });
    this.controls = method.fields.map((field) => fields.control(field, this.choices(field), (value) => this.type(field, value), () => this.reset(field)));
    const group = (title) => this.controls.filter((one) => one.field.group === title).map((one) => one.element);
    const folded = [...new Set(method.fields.map((field) => field.group))].filter((title) => title !== "usual");
    this.more = make("span");
    this.folded = folded.map((title) => make("section", { class: "group" }, make("h3", "", title), make("div", "fields", group(title))));
    this.status = make("p", { class: "small mut kept", role: "status" });
    fill(this.parts.settings, make("div", "row between sethead", make("h2", "", "Settings"), this.presets), this.status,
      make("div", "fields", this.parentPicker, group("usual")),
      make("details", { class: "more", open: wasOpen[0] }, make("summary", "", icon("chevron-right"), this.more), this.folded),
      this.whereItRuns(wasOpen[1]), this.fields.files(this.fileActs()));
    this.paint();
  }

  choices(field) {
    if (field.choices_from === "reward_models") return this.scorers();
    if (field.choices_from === "functions") return [{ id: "", words: "None" }, ...this.form.functions];
    if (field.choices_from === "devices") return this.form.launch.devices;
    return field.choices.map((one) => ({ id: one, words: one }));
  }

  /** What may score answers: reward models first; what the server's settings name, and what comes along, below. */
  scorers() {
    const { reward_models: versions, functions, judges } = this.form, of = (group, all) => all.map((one) => ({ ...one, group }));
    return [...of("Reward models", versions.length ? versions : [{ id: "", words: "None yet" }]), ...of("Functions", functions), ...of("Judges", judges)];
  }

  /** What to know about the choice that was made, in the place of the field's help. */
  note(field) {
    const value = this.value(field), why = this.method.scores_text && field.choices_from === "reward_models" && this.version?.apart[value];
    if (why) return `${value} is loaded beside the run, in a process of its own: ${why}. The memory it takes is counted under Before it starts.`;
    return this.choices(field).find((one) => one.id === value)?.note;
  }

  whereItRuns(open) {
    const { fields: launch, devices } = this.form.launch;
    this.launchControls = launch.map((field) => this.fields.control({ ...field, name: field.name }, field.name === "device" ? devices : this.choices(field), (value) => {
      this.launch[field.name] = value;
      this.paint();
      this.again(300);
    }, null, "launch"));
    this.where = make("span");
    if (!launch.length) return null;
    return make("details", { class: "more", open }, make("summary", "", icon("chevron-right"), this.where), make("div", "fields", this.launchControls.map((one) => one.element)));
  }

  fileActs() {
    return {
      text: async () => (await api("/api/new-run/to-yaml", { body: { method: this.name, settings: this.settings(), launch: this.launchSettings() } })).text,
      name: () => `${this.name}.yaml`,
      read: async (text) => {
        const given = await api("/api/new-run/from-yaml", { body: { text } });
        this.begin(given, "Settings read from YAML.");
        this.draw();
        this.again(0);
      },
      tell: (kind, sentence) => this.tell(kind, sentence),
    };
  }

  reset(field) {
    delete this.typed[this.name]?.[field.name];
    this.paint();
    this.again(0);
  }

  // ---- painting what changed, never what has the focus ----

  paint() {
    for (const control of this.controls ?? []) {
      const { field } = control, fixed = this.fixed(field);
      control.element.hidden = !this.applies(field);
      control.paint({ value: this.value(field), note: this.note(field), offered: this.offered(field), fault: this.faults[field.name], fixed: fixed !== undefined && `The adapter of ${this.parent} has it, and the run goes on training that adapter.`,
        mine: this.typed[this.name]?.[field.name] !== undefined && field.name !== "tuning" && field.choices_from !== "reward_models" });
    }
    for (const control of this.launchControls ?? []) {
      control.element.hidden = !this.applies(control.field, this.form.launch.fields, (other) => this.launchValue(other));
      control.paint({ value: this.launchValue(control.field), fault: this.faults[`launch-${control.field.name}`] });
    }
    for (const section of this.folded ?? []) section.hidden = [...section.querySelectorAll(".f")].every((one) => one.hidden);
    if (this.parentPicker) this.parentPicker.querySelector("select").value = this.parent ?? "";
    this.paintMore();
    this.paintPresets();
    this.paintFate();
  }

  paintMore() {
    const folded = this.method.fields.filter((field) => field.group !== "usual" && this.applies(field));
    const changed = folded.filter((field) => this.value(field) !== (this.fixed(field) ?? this.offered(field))).length;
    const wrong = folded.some((field) => this.faults[field.name]);
    this.more.textContent = `${folded.length} more settings, ${wrong ? "with something to mend" : changed ? `${changed} changed` : "all at their defaults"}`;
    const device = this.form.launch.devices.find((one) => one.id === this.launchSettings().device);
    const { processes } = this.launchSettings(), several = processes > 1 ? `, ${processes} processes` : "";
    if (this.where) this.where.textContent = `Where it runs: ${this.launch.where === "ray" ? "Ray cluster" : device ? device.words : "this machine"}${several}`;
  }

  /** Minutes beside a preset: what preflight says of the one that is chosen, and of the others as many as they have steps. */
  paintPresets() {
    const each = this.pace;
    for (const one of this.presets?.children ?? []) {
      const { preset } = one.dataset, steps = this.steps[preset];
      one.setAttribute("aria-pressed", String(preset === this.preset));
      const word = PRESETS.find(([name]) => name === preset)[1];
      fill(one, word, each && steps ? make("span", "", ", ", make("span", "t", duration(each * steps))) : null);
    }
  }

  paintFate() {
    const refused = this.form && this.refused();
    this.go.setAttribute("aria-disabled", String(Boolean(refused || this.starting)));
    const words = this.starting ? "Starting." : !this.form ? "" : !refused ? this.form.line.words : this.onlyToFreeze() ? "Freeze a snapshot first." : "Fix what is missing first.";
    if (this.fate.textContent !== words) this.fate.textContent = words;
  }
}

const section = (name, cls = "") => make("section", { class: `card ${cls}`, "aria-label": name });
const figure = (value, words) => make("div", "fact", make("b", "", value), make("span", "", words));
const short = (missing) => (missing.length > 28 ? "Not enough yet" : missing);
const prefixed = (faults) => Object.fromEntries(Object.entries(faults).map(([name, words]) => [`launch-${name}`, words]));
})();
