/* How far a reward model's confidence can be believed: what it predicted against what people said. */
const { make, svgEl, say, percent, count } = window.Plumbline;

const WIDTH = 300, HEIGHT = 220, LEFT = 48, RIGHT = 26, TOP = 10, BOTTOM = 40;
const x = (share) => LEFT + ((share - 0.5) / 0.5) * (WIDTH - LEFT - RIGHT);
const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);

/** The card of evaluation.json of a reward model; nothing for any other evaluation. */
export function calibration(evaluation) {
  if (evaluation?.kind !== "reward_model") return null;
  const { accuracy, interval: [low, high], pairs, calibration: bins = [], ece } = evaluation;
  const sentence = `It agrees with people on ${percent(accuracy)} [${Math.round(100 * low)}, ${Math.round(100 * high)}] of ${count(pairs, "held-out pair")}.`;
  return make("section", { class: "card", "aria-label": "On held-out pairs" },
    make("div", "ctop", make("h2", "", "On held-out pairs"), make("p", "ink2", sentence)),
    bins.length ? make("div", "calib", plot(bins), make("div", "", make("p", "small mut", explained(ece)), table(bins)))
      : say("", "Too few pairs were held out to say how far its confidence can be believed."));
}

const explained = (ece) => `A point on the line: as sure as it ought to be. Below it: too sure. On average it is off by ${(100 * ece).toFixed(0)} points.`;

function plot(bins) {
  const most = Math.max(...bins.map((bin) => bin.n));
  const line = (cls, x1, y1, x2, y2) => svgEl("line", { class: cls, x1, y1, x2, y2 });
  const text = (anchor, px, py, words) => { const element = svgEl("text", { x: px, y: py, "text-anchor": anchor }); element.textContent = words; return element; };
  const grid = [0, 0.5, 1].flatMap((share) => [line("grid", x(0.5), y(share), x(1), y(share)), text("end", LEFT - 6, y(share) + 4, percent(share))]);
  const ticks = [0.5, 0.75, 1].map((share) => text("middle", x(share), HEIGHT - BOTTOM + 18, percent(share)));
  const points = bins.map((bin) => svgEl("circle", { cx: x(bin.predicted), cy: y(bin.observed), r: 4 + 5 * Math.sqrt(bin.n / most) }));
  return svgEl("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Predicted against observed; the table beside it has the figures" },
    ...grid, ...ticks, line("diagonal", x(0.5), y(0.5), x(1), y(1)), ...points, text("middle", x(0.75), HEIGHT - 4, "how sure it was"));
}

function table(bins) {
  const rows = bins.map((bin) => make("tr", "", make("td", "", `${percent(bin.low)} to ${percent(bin.high)}`), make("td", "n", String(bin.n)),
    make("td", "n", percent(bin.predicted)), make("td", "n", percent(bin.observed))));
  return make("table", "small", make("thead", "", make("tr", "", make("th", "", "How sure"), make("th", "n", "Pairs"), make("th", "n", "Predicted"), make("th", "n", "Observed"))),
    make("tbody", "", rows));
}
