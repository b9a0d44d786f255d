/* The fields of the new-run form: native inputs with their help, their fault, and the mark of what a person typed. */
const { make, fill, icon, button, ago } = window.Plumbline;

/** 0.0012 stays, 0.0000005 becomes 5e-7. */
export const written = (value) => (typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value ?? ""));

const NAMES = { lora: "LoRA", qlora: "QLoRA", full: "Full weights" }; // of choices that are values of code

/** A select with its label and help: {id, label, help, choices: [{id, words}], value, pick}. */
export function picker({ id, label, help, choices, value, pick }) {
  const select = make("select", { id, "aria-describedby": `help-${id}`, onchange: () => pick(select.value) },
    choices.map((one) => make("option", { value: one.id }, one.words)));
  select.value = value ?? "";
  return make("div", "f", make("label", { for: id }, label), select, make("p", { class: "help", id: `help-${id}` }, help));
}

/** One setting. `paint` shows a value (not over what is being typed), a fault in the place of the help, and the way back. */
export function control(field, choices, type, reset, prefix = "setting") {
  const id = `${prefix}-${field.name}`;
  const input = field.kind === "switch" ? make("input", { id, type: "checkbox" })
    : choices.length ? make("select", { id }, grouped(choices))
    : make("input", { id, type: "text", inputmode: { number: "decimal", integer: "numeric" }[field.kind], autocomplete: "off", spellcheck: "false", placeholder: field.optional && "set from the data" });
  const help = make("p", { class: "help", id: `help-${id}` }), back = make("button", { class: "back-to", type: "button", onclick: () => { reset(); input.focus(); } });
  input.setAttribute("aria-describedby", help.id);
  const given = () => (field.kind === "switch" ? input.checked : parsed(field, input.value));
  input.addEventListener(choices.length || field.kind === "switch" ? "change" : "input", () => type(given()));
  const element = make("div", "f", make("div", "lab", make("label", { for: id }, field.title), back), input, help);
  const paint = ({ value, offered, fault, fixed, note, mine }) => {
    if (field.kind === "switch") input.checked = Boolean(value);
    else if (input !== document.activeElement || parsed(field, input.value) !== value) input.value = written(value);
    input.disabled = Boolean(fixed);
    input.setAttribute("aria-invalid", String(Boolean(fault)));
    help.className = fault ? "help fault" : "help";
    const words = fault ? `${fault[0].toUpperCase()}${fault.slice(1)}.` : fixed || note || field.help;
    if (help.textContent !== words) help.textContent = words;
    if (fault) help.setAttribute("role", "alert"); else help.removeAttribute("role");
    back.hidden = !mine || !reset;
    if (!back.hidden) {
      fill(back, icon("undo-2"), written(offered) || "empty");
      back.setAttribute("aria-label", `You set ${field.title}. Go back to ${written(offered) || "empty"}, which is proposed`);
      back.title = "You set this. Go back to what is proposed";
    }
  };
  return { field, element, input, paint };
}

/** The options of a select, under the name of their group where they have one. */
function grouped(choices) {
  const option = (one) => make("option", { value: one.id }, NAMES[one.words] ?? one.words);
  const groups = [...new Set(choices.map((one) => one.group ?? ""))];
  return groups.flatMap((group) => {
    const options = choices.filter((one) => (one.group ?? "") === group).map(option);
    return group ? [make("optgroup", { label: group }, options)] : options;
  });
}

/** As the class wants it; what is no number goes as it is, so that the class says so. */
function parsed(field, text) {
  const plain = text.trim();
  if (field.kind === "number" || field.kind === "integer") {
    if (plain === "") return field.optional ? null : "";
    const value = Number(plain.replace(",", "."));
    return Number.isFinite(value) ? value : plain;
  }
  if (plain === "" && field.optional) return null;
  const number = Number(plain);
  return field.kind === "choice" && typeof field.choices[0] === "number" ? number : plain;
}

// ---- what is in the chosen snapshot, and what was left out of it ----

const LEFT_OUT = [
  ["superseded", "judgments changed later by their author"], ["held_out", "on held-out prompts or documents"], ["other_feedback", "judgments of another kind"],
  ["repeats", "judgments asked twice of the same person, to see how steady they are"], ["adjudicated", "judgments on prompts that a lead settled"],
  ["no_pair", "judgments in which all answers tie"], ["ties", "pairs of answers that tie"], ["missing", "verdicts whose text is gone"],
  ["identical", "verdicts between two equal answers"], ["duplicates", "said again by someone"], ["contradictions", "verdicts contradicted by as many or more"],
];

export function counted({ counts, judgments, people, rows, rows_are: are, fingerprint, created_at: at, notes = [] }, open = false) {
  const row = (number, words, cls = "") => make("tr", cls, make("td", "n", number.toLocaleString("en")), make("td", "", words));
  const labels = counts.desirable === undefined ? "" : ` (${counts.desirable} up, ${counts.undesirable} down)`;
  const out = LEFT_OUT.filter(([name]) => counts[name]).map(([name, words]) => row(counts[name], words, "mut"));
  const by = people ? ` by ${people === 1 ? "1 person" : `${people} people`}` : "";
  const table = make("table", "counts", make("caption", "sr", "What is in this snapshot"), make("tbody", "",
    counts.judgments !== undefined && row(counts.judgments, "judgments were looked at"),
    row(rows, `${are} to learn from${labels}`, "b"),
    judgments > 0 && row(judgments, `judgments are behind them${people ? "," : ""}${by}`),
    out.length && make("tr", "", make("th", { colspan: "2", scope: "rowgroup" }, "Left out")), out,
    make("tr", "mut", make("td", { class: "fp", colspan: "2" }, "Fingerprint ", make("span", "mono", fingerprint.slice(0, 12))))));
  const line = `${rows.toLocaleString("en")} ${are}${judgments ? ` from ${judgments.toLocaleString("en")} judgments${by}` : ""}, frozen ${ago(at)}`;
  return [notes.map((note) => make("p", "note small", note)), make("details", { open }, make("summary", "", icon("chevron-right"), line), table)];
}

// ---- the settings as a file ----

export function files({ text, name, read, tell }) {
  const copy = async () => {
    try {
      const yaml = await text();
      await navigator.clipboard.writeText(yaml);
      tell("ok", "Copied as YAML.");
    } catch (error) { tell("bad", error.message); }
  };
  const save = async () => {
    try {
      const link = make("a", { href: URL.createObjectURL(new Blob([await text()], { type: "application/yaml" })), download: name() });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (error) { tell("bad", error.message); }
  };
  const dialog = reader(read);
  return make("div", "row files", button("copy", "Copy as YAML", copy, "btn sm"), button("download", "Download", save, "btn sm"),
    button("upload", "Read YAML", () => dialog.showModal(), "btn sm"), dialog);
}

/** The line that a fault names, marked and in view. */
function showLine(area, number) {
  const lines = area.value.split("\n");
  if (!(number >= 1 && number <= lines.length)) return;
  const start = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  area.setSelectionRange(start, start + lines[number - 1].length);
  area.scrollTop = Math.max(0, (number - 4) * (area.scrollHeight / lines.length));
}

function reader(read) {
  const area = make("textarea", { id: "yaml", rows: "12", class: "mono", spellcheck: "false", "aria-describedby": "yaml-fault" });
  const fault = make("p", { class: "fault", id: "yaml-fault", role: "alert" });
  const file = make("input", { type: "file", accept: ".yaml,.yml,text/yaml", id: "yaml-file", onchange: async () => { if (file.files[0]) area.value = await file.files[0].text(); file.value = ""; fault.textContent = ""; } }); // emptied, so that the same file can be chosen again once it is mended
  const use = async () => {
    try {
      await read(area.value);
      dialog.close();
    } catch (error) { fault.textContent = error.message; area.focus(); showLine(area, Number(/^Line (\d+)/.exec(error.message)?.[1])); }
  };
  const dialog = make("dialog", { "aria-labelledby": "yaml-title", onclose: () => { fault.textContent = ""; } },
    make("h2", { id: "yaml-title" }, "Read settings from YAML"),
    make("div", "f", make("label", { for: "yaml" }, "Settings"), area, fault),
    make("div", "f", make("label", { for: "yaml-file" }, "or a file"), file),
    make("div", "acts end", button(null, "Cancel", () => dialog.close()), button(null, "Fill the form", use, "btn go")));
  return dialog;
}
