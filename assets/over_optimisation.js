/* Reward and gold against the drift that they were had for (Gao et al. 2022, arXiv:2210.10760), of a run that has a gold
   function. A dot for each step, a line through the means of those at like drift, a ring for each measurement on held-out
   prompts. The scale of the drift is that of its square root, as in the paper: most happens early. */
import { around, axes, axis, frame, short, size, tone, windowOf } from "./curves.js";

const { make, fill, say } = window.Plumbline;

const PANELS = [
  { key: "reward", held: "eval_reward", name: "Reward", colour: "--acc" },
  { key: "gold", held: "eval_gold", name: "Gold", colour: "--warn" },
];
const TICKS = [0, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500];
const TOKENWISE = ["rloo"]; // what they log as kl is that of a token
const none = () => null;

/** Draws into `root`, which stays empty for a run without gold. Returns {update(state), destroy()}, as curves do. */
export function goldAgainstReward(root, method) {
  let drawn = [], last = null;
  const box = make("div", "curves pair"), said = make("div", "stack"), legend = make("div", "row lgs small mut");
  const redraw = () => { clear(); if (last) update(last); };
  const resized = new ResizeObserver(() => drawn.forEach((one) => one.plot.setSize(size(one.box))));
  window.addEventListener("plumbline:theme", redraw);

  function update(state) {
    last = state;
    const found = measured(state.points, method);
    if (!state.gold || found.steps.length < 2) return;
    if (!drawn.length) build();
    fill(said, say(state.gold.kind, `${state.gold.sentence} ${state.gold.kept}`, { lead: `${state.gold.title}.` }));
    fill(legend, ...legendOf(state.gold.best));
    for (const one of drawn) one.set(found, windowOf(state.steps), state.gold.best);
  }

  function build() {
    fill(root, make("section", { class: "card", "aria-label": "Reward and gold against drift" },
      make("div", "ctop", make("h2", "", "Reward and gold, by drift"),
        make("p", "mut small", "Gold scores the answers too, and nothing is learned from it. Across: nats that an answer has drifted from the parent, by their square root.")),
      said, box, legend));
    fill(box, PANELS.map(frame));
    drawn = PANELS.map((panel, index) => draw(panel, box.children[index]));
    drawn.forEach((one) => resized.observe(one.box));
  }

  function clear() {
    resized.disconnect();
    drawn.forEach((one) => one.plot.destroy());
    drawn = [];
  }

  const destroy = () => { clear(); window.removeEventListener("plumbline:theme", redraw); };
  return { update, destroy };
}

/** The steps and the measurements that have drift, reward and gold, as they came. */
function measured(points, method) {
  const of = (prefix) => points.map((point) => {
    const kl = point[`${prefix}kl`], drift = TOKENWISE.includes(method) ? kl * point[`${prefix}completions/mean_length`] : kl;
    return { drift: Math.max(0, drift), reward: point[`${prefix}reward`], gold: point[`${prefix}gold`] };
  }).filter((one) => Object.values(one).every(Number.isFinite));
  return { steps: of(""), held: of("eval_") };
}

function draw(panel, element) {
  const box = element.querySelector(".plot");
  let best = null;
  const plot = new window.uPlot(options(panel, box, () => best), [[0, 1], [null, null], [null, null], [null, null]], box);
  return { plot, box, set({ steps, held }, span, turned) {
    best = turned;
    const pairs = (some) => some.map((one) => [one.drift, one[panel.key]]), dots = pairs(steps), rings = pairs(held);
    plot.setData(together([dots, smoothed(dots, span), rings]));
    write(element, panel, mean(dots.slice(0, span)), mean(dots.slice(-span)), rings.at(-1));
  } };
}

const mean = (pairs) => [0, 1].map((place) => pairs.reduce((sum, pair) => sum + pair[place], 0) / pairs.length);

/** The mean drift and value of each `span` neighbours in drift. */
function smoothed(dots, span) {
  const ordered = dots.toSorted((a, b) => a[0] - b[0]), number = Math.min(span, dots.length);
  return ordered.slice(number - 1).map((_, start) => mean(ordered.slice(start, start + number)));
}

/** As uPlot wants it, by the square root of the drift. Two steps may have drifted as far, so each keeps its own place. */
function together(all) {
  const flat = all.flatMap((series, index) => series.map(([drift, value]) => ({ at: Math.sqrt(drift), index, value }))).sort((a, b) => a.at - b.at);
  return [flat.map((one) => one.at), ...all.map((_, index) => flat.map((one) => (one.index === index ? one.value : null)))];
}

/** The figures are those of the first and of the last steps: [drift, value]. */
function write(element, panel, first, last, ring) {
  const held = ring ? `held-out ${short(ring[1])}` : "";
  element.querySelector("b").textContent = short(last[1]);
  const [metric, beside] = element.querySelector(".k").children;
  metric.textContent = panel.key;
  beside.textContent = held && `\u00a0· ${held}`;
  const words = `${panel.name} goes from ${short(first[1])} at a drift of ${short(first[0])} nats to ${short(last[1])} at ${short(last[0])}`;
  element.querySelector(".plot").setAttribute("aria-label", held ? `${words}, ${held}` : words);
}

function legendOf(best) {
  const entry = (cls, words) => make("span", `lg ${cls}`, words);
  return [entry("step", "each step"), entry("", "mean at like drift"), entry("dot", "on held-out prompts"), best && entry("turn", `gold was highest, near step ${best.step}`)].filter(Boolean);
}

// ---- how it looks ----

function options(panel, box, best) {
  const colour = tone(panel.colour), surface = tone("--sf");
  const ticks = (u) => spread(TICKS.filter((one) => Math.sqrt(one) <= u.scales.x.max).map(Math.sqrt), u.scales.x.max);
  const below = { splits: ticks, values: (u, splits) => splits.map((at) => String(Number((at * at).toFixed(2)))) };
  return {
    ...size(box), legend: { show: false }, cursor: { show: false }, padding: [6, 12, 0, 0],
    scales: { x: { time: false, range: (u, low, high) => [0, Math.max(0.5, high) * 1.03] }, y: { range: (u, low, high) => around(low, high, false) } },
    axes: axes(below, (values) => values.map((one) => axis(one, values, {}))),
    series: [{},
      { paths: none, points: { show: true, size: 5, fill: colour, stroke: colour, width: 0 }, alpha: 0.35 },
      { stroke: colour, width: 2.2, spanGaps: true, points: { show: false } },
      { paths: none, points: { show: true, size: 8, fill: surface, stroke: colour, width: 1.8 } }],
    hooks: { draw: [(u) => best() && turn(u, Math.sqrt(Math.max(0, best().drift)))] },
  };
}

/** Those that lie far enough apart to be read, from the right. */
function spread(places, end) {
  const kept = [];
  for (const place of places.toReversed()) if (!kept.length || kept[0] - place > end / 10) kept.unshift(place);
  return kept[0] === 0 ? kept : [0, ...kept.slice(kept[0] < end / 10 ? 1 : 0)];
}

/** A dashed line where gold was highest. */
function turn(u, at) {
  const x = u.valToPos(at, "x", true), ratio = window.devicePixelRatio || 1;
  u.ctx.save();
  u.ctx.strokeStyle = tone("--mut");
  u.ctx.lineWidth = 1.5 * ratio;
  u.ctx.setLineDash([4 * ratio, 4 * ratio]);
  u.ctx.beginPath();
  u.ctx.moveTo(x, u.bbox.top);
  u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
  u.ctx.stroke();
  u.ctx.restore();
}
