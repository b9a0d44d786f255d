/* A reward model on the models page: how often it is right, and what it says of an answer. */
(() => {
"use strict";
const { make, svgEl, fill, icon, button, say, percent, withInterval, count, api } = window.Plumbline;

const list = (words) => new Intl.ListFormat("en").format(words);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function trust({ evaluation }) {
  if (!evaluation) return make("p", "ink2", "Its run held no pairs out, so nobody knows. Train one that does before you rely on it.");
  const [low, high] = evaluation.interval;
  const right = withInterval({ value: evaluation.accuracy, low, high });
  return make("div", "stack",
    make("p", "ink2", make("b", "", right), ` of ${count(evaluation.pairs, "pair")} it had not seen: the answer that people preferred got the higher score.`),
    make("figure", "", calibration(evaluation.calibration),
      make("figcaption", "help", `Dots on the line: it is as sure as it should be. On average it is ${(100 * evaluation.ece).toFixed(0)} points off; the figure at a dot is how many pairs it stands for.`)));
}

const FIGURE = { width: 340, height: 190, left: 44, right: 16, top: 12, bottom: 40 };

/** How often it was right (up) over how sure it was (right), in words for those who do not see it. */
function calibration(bins) {
  const { width, height, left, right, top, bottom } = FIGURE;
  const x = (chance) => left + ((chance - 0.5) / 0.5) * (width - left - right), y = (share) => height - bottom - share * (height - top - bottom);
  const words = bins.map((bin) => `${percent(bin.predicted)} sure, right in ${percent(bin.observed)} of ${bin.n}`).join("; ");
  const grid = [0, 0.5, 1].map((share) => [svgEl("line", { class: "g", x1: left, x2: width - right, y1: y(share), y2: y(share) }), svgEl("text", { class: "ax", x: left - 7, y: y(share) + 4, "text-anchor": "end" }, percent(share))]);
  const below = [0.5, 0.75, 1].map((chance) => svgEl("text", { class: "ax", x: x(chance), y: height - bottom + 17, "text-anchor": chance === 1 ? "end" : "middle" }, percent(chance)));
  const dots = bins.map((bin) => [svgEl("circle", { cx: x(bin.predicted), cy: y(bin.observed), r: 5 }), svgEl("text", { class: "n", x: x(bin.predicted), y: y(bin.observed) + (bin.observed > 0.9 || bin.observed < bin.predicted ? 20 : -10), "text-anchor": bin.predicted > 0.95 ? "end" : "middle" }, String(bin.n))]);
  return svgEl("svg", { class: "calib", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Calibration: ${words}.` },
    ...grid.flat(), svgEl("line", { class: "diag", x1: x(0.5), y1: y(0.5), x2: x(1), y2: y(1) }), ...below,
    svgEl("text", { class: "ax", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "how sure it was; upwards, how often it was right"), ...dots.flat());
}

const MOST_ANSWERS = 4;

function scoreForm(id) {
  const prompt = make("textarea", { id: `score-prompt-${id}`, rows: 2, required: true, "data-focus": `score-prompt-${id}` });
  const answers = make("div", "stack"), said = make("div", { class: "stack", "aria-live": "polite" });
  const more = button("plus", "Another answer", () => { add(); answers.lastElementChild.querySelector("textarea").focus(); }, "btn sm");
  const go = make("button", { class: "btn go", type: "submit", "data-focus": `score-go-${id}` }, "Score");
  const why = make("p", "mut small");
  const fields = () => [...answers.querySelectorAll("textarea")];

  function add() {
    const number = answers.children.length + 1, name = `score-answer-${id}-${number}`;
    answers.append(make("div", "f", make("div", "row between", make("label", { for: name }, `Answer ${number}`), make("span", "verdict")),
      make("textarea", { id: name, rows: 2, "data-focus": name })));
    more.hidden = number >= MOST_ANSWERS;
  }

  async function score(event) {
    event.preventDefault();
    const filled = fields().filter((field) => field.value.trim());
    forget();
    if (!filled.length) return fill(said, say("warn", "Write an answer first."));
    go.disabled = true;
    try {
      const { scores } = await api(`/api/models/${encodeURIComponent(id)}/score`, { body: { prompt: prompt.value, answers: filled.map((field) => field.value) } });
      show(filled, scores);
    } catch (error) {
      fill(said, say("bad", error.message));
    }
    go.disabled = false;
  }

  function show(filled, scores) {
    const best = Math.max(...scores);
    filled.forEach((field, index) => fill(verdictOf(field), scores.length > 1 && scores[index] === best && make("span", "tag ok", icon("check"), "Best"), make("span", "num b", signed(scores[index]))));
    fill(said, say("", inWords(filled.map((field) => fields().indexOf(field) + 1), scores, card.evaluation)));
  }

  const verdictOf = (field) => field.closest(".f").querySelector(".verdict");
  const forget = () => { fill(said); fields().forEach((field) => fill(verdictOf(field))); };

  const form = make("form", { class: "stack", onsubmit: score },
    make("div", "f", make("label", { for: `score-prompt-${id}` }, "Prompt"), prompt), answers, make("div", "row", more), said, make("div", "row between", why, go));
  form.addEventListener("input", forget); // a score of another text than the one shown would be a lie
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); } });
  const card = make("section", { class: "card scoring", "aria-label": "Score an answer" }, make("div", "ct", make("h2", "", "Score an answer"), make("span", "mut small", `What ${id} makes of it`)), form);
  add();
  add();
  return { card, follow(version) {
    card.evaluation = version.evaluation;
    go.disabled = version.state !== "served";
    why.textContent = version.state === "served" ? "One to four answers to the same prompt. Ctrl + Enter scores them." : version.served ? "It scores once its model server is up." : "Load it first; then it can score.";
  } };
}

const signed = (score) => `${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;

/** What the scores mean. Only differences do: their sigmoid is the chance that people prefer the one to the other. */
function inWords(numbers, scores, evaluation) {
  const order = scores.map((score, index) => ({ score, number: numbers[index] })).sort((a, b) => b.score - a.score);
  const [best, ...others] = order;
  if (!others.length) {
    const place = evaluation && (best.score - evaluation.mean) / evaluation.std;
    const beside = evaluation ? ` It is ${Math.abs(place).toFixed(1)} standard deviations ${place < 0 ? "below" : "above"} the average of the answers it was measured on.` : "";
    return `One score alone says little; add an answer to compare it with.${beside}`;
  }
  const chances = others.map((other) => `to answer ${other.number} in ${surely(sigmoid(best.score - other.score))} cases of 100`);
  return `People are expected to prefer answer ${best.number} ${list(chances)}.`;
}

const surely = (chance) => (chance > 0.995 ? "more than 99" : String(Math.round(100 * chance)));

Object.assign(window.Plumbline, { trust, scoreForm });
})();
