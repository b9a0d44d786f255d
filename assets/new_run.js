/* The drawn parts of the new-run page: method cards, what is in a snapshot, refusals. The form around them is Gradio's.

   Python hands each part its words as JSON in the component's value; a choice goes back the same way. */
const { make, fill, icon, say } = window.Plumbline;

export function head(root) {
  fill(root, make("div", "row", make("a", { class: "btn ghost sm back", href: "/runs" }, icon("chevron-left"), "Runs"), make("h1", "", "New run")));
}

/** Calls paint with the parsed value, now and whenever Python changes it. */
function follow(root, { props, watch }, paint, empty = () => {}) {
  const now = () => { if (props.value) paint(JSON.parse(props.value)); else empty(); root.dataset.ready = props.value ? "yes" : ""; };
  watch("value", now);
  now();
}

/* ---- method cards: a radio group, so one stop for Tab and the arrows to choose ---- */

export function methods(root, given) {
  const group = make("div", { class: "meth", role: "radiogroup", "aria-label": "Method" });
  fill(root, make("div", "ct", make("h2", "", "Method"), make("span", "mut small", "The data decides what is possible; you decide what is wanted.")), group);
  const pick = (name) => {
    const value = { ...JSON.parse(given.props.value), chosen: name };
    given.props.value = JSON.stringify(value);
    paint(value);
    group.querySelector("[aria-checked=true]").focus();
    given.trigger("click");
  };
  const paint = ({ offers, chosen }) => fill(group, offers.map((offer) => card(offer, offer.name === chosen, () => pick(offer.name))));
  group.addEventListener("keydown", (event) => move(event, group));
  root.addEventListener("click", (event) => event.stopPropagation()); // only a choice is a click to Python
  follow(root, given, paint);
}

function card(offer, isChosen, pick) {
  return make("button", { class: "m", type: "button", role: "radio", "aria-checked": String(isChosen), tabindex: isChosen ? "0" : "-1", onclick: () => isChosen || pick() },
    make("span", "t", make("span", "", offer.title), make("span", offer.missing ? "w warn" : "w", offer.missing || "Possible")),
    make("span", "d", offer.sentence),
    make("span", "h", offer.missing ? `${offer.reads} so far` : offer.reads));
}

function move(event, group) {
  const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  const all = [...group.children];
  all.at((all.indexOf(document.activeElement) + way) % all.length).click();
}

/* ---- what is in the chosen snapshot, and what was left out of it ---- */

const LEFT_OUT = [
  ["superseded", "judgments changed later by their author"], ["held_out", "judgments on held-out prompts"], ["other_feedback", "judgments of another kind"],
  ["no_pair", "judgments in which all answers tie"], ["ties", "pairs of answers that tie"], ["missing", "verdicts whose text is gone"],
  ["identical", "verdicts between two equal answers"], ["duplicates", "verdicts said again by someone"], ["contradictions", "verdicts contradicted by as many or more"],
];

export function snapshotCounts(root, given) {
  follow(root, given, (snapshot) => fill(root, snapshot ? counted(snapshot) : say("", "There is no snapshot that this method can read yet. Freeze one from the judgments there are.")));
}

function counted({ counts, judgments, people, rows, rows_are: are, fingerprint, notes = [] }) {
  const row = (number, words, cls = "") => make("tr", cls, make("td", "n", number.toLocaleString("en")), make("td", "", words));
  const labels = counts.desirable === undefined ? "" : ` (${counts.desirable} up, ${counts.undesirable} down)`;
  const out = LEFT_OUT.filter(([name]) => counts[name]).map(([name, words]) => row(counts[name], words, "mut"));
  const table = make("table", "counts", make("caption", "sr", "What is in this snapshot"), make("tbody", "",
    row(counts.judgments ?? judgments, `judgments were looked at`),
    row(rows, `${are} to learn from${labels}`, "b"),
    row(judgments, `judgments are behind them, by ${people === 1 ? "1 person" : `${people} people`}`),
    out.length && make("tr", "", make("th", { colspan: "2", scope: "rowgroup" }, "Left out")), out,
    make("tr", "mut", make("td", { class: "fp", colspan: "2" }, "Fingerprint ", make("span", "mono", fingerprint.slice(0, 12))))));
  return [notes.map((note) => make("p", "note small", note)), table];
}

/* ---- a sentence in place, or where to go; the next button pressed makes it old ---- */

export function said(root, given) {
  follow(root, given, (what) => {
    if (what.go) { location.assign(what.go); return; }
    fill(root, say(what.kind, what.sentence));
    root.scrollIntoView({ block: "nearest" });
  }, () => fill(root));
  document.addEventListener("click", (event) => {
    if (!given.props.value || !event.target.closest("button")) return;
    given.props.value = ""; // so that the same sentence again is a change
    fill(root);
  }, true);
}
