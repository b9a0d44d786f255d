/* The curves of a run: a thin line for each step, a bold one for the average of the last few, a dot for each measurement
   on held-out rows, a ring around the best checkpoint, empty space for what is left. Other runs lie under it, dashed.

   The plain name comes first, TRL's name of the metric under it, so that an engineer finds it in the paper. */
const { make, fill, percent } = window.Plumbline;

const share = (value) => percent(value);
const tiny = (value) => (value === 0 ? "0" : value.toExponential(1).replace(".0e", "e").replace("e+", "e"));
const small = (value) => (value === 0 || Math.abs(value) >= 0.1 ? value.toFixed(2) : Math.abs(value) >= 0.001 ? value.toFixed(3) : tiny(value));
const finely = (value) => `${(100 * value).toFixed(Math.abs(value) < 0.1 ? 1 : 0)} %`;
const whole = (value) => Math.round(value).toLocaleString("en");
const gigabytes = (value) => `${(value / 1024).toFixed(1)} GB`;

/* `held` is the same thing measured on held-out rows; `lead` shows that one's figure where it was measured. */
const LOSS = { key: "loss", held: "eval_loss", name: "Loss" };
const MARGIN = { key: "rewards/margins", held: "eval_rewards/margins", name: "Margin" };
const CHOICE = { key: "rewards/accuracies", held: "eval_rewards/accuracies", name: "Accuracy", lead: true, format: share };
const CHOSEN = { key: "rewards/chosen", held: "eval_rewards/chosen", name: "Chosen answers" };
const DRIFT = { key: "kl", held: "eval_kl", name: "Drift from the parent" };
const ENTROPY = { key: "entropy", held: "eval_entropy", name: "Entropy" };
const TOKENS = { key: "mean_token_accuracy", held: "eval_mean_token_accuracy", name: "Token accuracy", format: share };
const REWARD = { key: "reward", held: "eval_reward", name: "Reward" };
const LENGTH = { key: "completions/mean_length", held: "eval_completions/mean_length", name: "Answer length", format: whole };
const CUT_OFF = { key: "completions/clipped_ratio", held: "eval_completions/clipped_ratio", name: "Answers cut off", format: share };
const OWN = {
  pretrain: [{ key: "loss", held: "eval_loss", name: "Perplexity", shown: "exp(loss)", lead: true, from: Math.exp }, LOSS, TOKENS, ENTROPY],
  sft: [LOSS, TOKENS, ENTROPY],
  reward_model: [LOSS, { key: "accuracy", held: "eval_accuracy", name: "Accuracy", lead: true, format: share },
    { key: "margin", held: "eval_margin", name: "Margin" }, { key: "mean_reward", held: "eval_mean_reward", name: "Mean reward" }],
  dpo: [LOSS, MARGIN, CHOICE, CHOSEN],
  kto: [LOSS, MARGIN, DRIFT, CHOSEN],
  orpo: [LOSS, MARGIN, CHOICE, { key: "logps/chosen", held: "eval_logps/chosen", name: "Chosen log-probability" }],
  rloo: [REWARD, DRIFT, LENGTH, ENTROPY],
  ppo: [REWARD, DRIFT, { key: "objective", held: "eval_objective", name: "Reward less drift" }, LENGTH,
    { key: "clip_fraction", name: "Clip fraction", format: finely }, { key: "value_loss", name: "Value loss", format: small }, ENTROPY, CUT_OFF],
};
const ANY = [LOSS, MARGIN, CHOICE, DRIFT, TOKENS, ENTROPY];
const MORE = [
  { key: "learning_rate", name: "Learning rate", format: tiny, exact: true },
  { key: "grad_norm", name: "Gradient norm" },
  { key: "tokens_per_second", name: "Tokens per second", format: whole },
  { key: "memory_mb", name: "Memory", format: gigabytes },
  CUT_OFF,
  { key: "frac_reward_zero_std", name: "Prompts with equal rewards", format: share },
  { key: "approx_kl", name: "KL from what sampled", format: small },
  { key: "sampler_gap", name: "Largest gap to what sampled", format: tiny },
  { key: "sampler_weight", name: "Mean weight of what was sampled", format: finely },
  { key: "explained_variance", name: "Explained by the value", format: share },
  { key: "epochs", name: "Passes made" },
  { key: "beta", name: "Beta", format: small, exact: true },
];
const DASHES = [[5, 4], [2, 3], [9, 3, 2, 3]];

/** The curves of a method; those of any method for one that has none of its own. */
export const ownCurves = (method) => OWN[method] ?? ANY.slice(0, 4);
export const moreCurves = (method) => MORE.filter((curve) => !ownCurves(method).includes(curve));

/** Draws into `root`. `wanted`: which curves, in order. Returns {update(state), destroy()}; a state is
    {points, steps, end, best, others: [{id, points}]}. `points` are all of the run so far; its axis goes to step `end`. */
export function curves(root, wanted) {
  let drawn = [], shown = "", last = null;
  const redraw = () => { shown = ""; if (last) update(last); };
  const resized = new ResizeObserver(() => drawn.forEach((one) => one.plot.setSize(size(one.box))));
  window.addEventListener("plumbline:theme", redraw);

  function update(state) {
    last = state;
    const chosen = wanted.filter((curve) => measured(curve, state.points));
    const names = JSON.stringify([chosen.map((curve) => [curve.name, isLed(curve, state.points)]), state.others.map((other) => other.id)]);
    if (names !== shown) rebuild(chosen);
    shown = names;
    for (const one of drawn) one.set(state);
    return chosen.length;
  }

  function rebuild(chosen) {
    resized.disconnect();
    drawn.forEach((one) => one.plot.destroy());
    fill(root, chosen.map((curve) => frame(curve)));
    drawn = chosen.map((curve, index) => draw(curve, root.children[index], () => last));
    drawn.forEach((one) => resized.observe(one.box));
  }

  const destroy = () => {
    resized.disconnect();
    window.removeEventListener("plumbline:theme", redraw);
    drawn.forEach((one) => one.plot.destroy());
  };
  return { update, destroy };
}

/** How many steps an average covers: a twentieth of the run, at least five; but of a short run no more than the last
    fifth, of which the outcome and the health speak. */
export const windowOf = (steps) => Math.max(Math.min(5, Math.floor(steps / 5)), Math.round(steps / 20), 1);

const measured = (curve, points) => points.some((point) => Number.isFinite(point[curve.key]) || Number.isFinite(point[curve.held]));

/** Whether held-out values are what this curve is about; the training line then stands back. */
const isLed = (curve, points) => Boolean(curve.lead) && points.some((point) => Number.isFinite(point[curve.held]));

export function frame(curve) {
  return make("div", "curve",
    make("div", "v", make("h3", "", curve.name), make("b", "num")),
    make("div", "k", make("span"), make("span", "nw")),
    make("div", { class: "plot", role: "img" }));
}

// ---- one curve ----

function draw(curve, element, state) {
  const box = element.querySelector(".plot");
  const plot = new window.uPlot(options(curve, box, state), [[], [], []], box);
  return { plot, box, set(now) {
    const mine = seriesOf(curve, now.points, now.steps);
    const others = now.others.map((other) => leading(curve, seriesOf(curve, other.points, now.steps)));
    plot.setData(aligned([mine.each, mine.average, mine.held, ...others]));
    write(element, curve, mine, others, now);
  } };
}

/** Of one run: the value at each step, its average over the last few, and what was measured on held-out rows. */
function seriesOf(curve, points, steps) {
  const of = (key) => points.filter((point) => Number.isFinite(point[key])).map((point) => [point.step, curve.from ? curve.from(point[key]) : point[key]]);
  const each = of(curve.key);
  return { each: curve.exact || isLed(curve, points) ? [] : each, average: curve.exact ? each : average(each, windowOf(steps)), held: curve.held ? of(curve.held) : [] };
}

const leading = (curve, series) => ((curve.lead && series.held.length) || !series.average.length ? series.held : series.average);

/** Mean over the last `span` steps up to each point. */
function average(series, span) {
  let from = 0, sum = 0;
  return series.map(([step, value], index) => {
    sum += value;
    while (series[from][0] <= step - span) sum -= series[from++][1];
    return [step, sum / (index - from + 1)];
  });
}

/** As uPlot wants it: one row of steps, and each series with null where it has no value. */
function aligned(all) {
  const steps = [...new Set(all.flatMap((series) => series.map(([step]) => step)))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  return [steps, ...all.map((series) => {
    const row = new Array(steps.length).fill(null);
    for (const [step, value] of series) row[place.get(step)] = value;
    return row;
  })];
}

function write(element, curve, mine, others, now) {
  const format = curve.format ?? short, series = leading(curve, mine), isHeld = series === mine.held && mine.held.length > 0;
  const name = isHeld && !curve.from ? `Held-out ${curve.name.toLowerCase()}` : curve.name;
  const held = !isHeld && mine.held.length ? `, held-out ${format(mine.held.at(-1)[1])}` : "", key = isHeld ? curve.held : curve.key;
  put(element.querySelector("h3"), name);
  put(element.querySelector("b"), series.length ? format(series.at(-1)[1]) : "");
  const [metric, beside] = element.querySelector(".k").children;
  put(metric, curve.shown ?? key);
  put(beside, held.replace(", ", "\u00a0· "));
  metric.title = key;
  const said = [inWords(name, series, format), ...now.others.map((other, index) => others[index].length && inWords(other.id, others[index], format))];
  element.querySelector(".plot").setAttribute("aria-label", said.filter(Boolean).join("; ") + held);
}

const put = (element, text) => element.textContent !== text && (element.textContent = text);

// ---- how it looks ----

function options(curve, box, state) {
  const end = (u, series) => { const at = u.data[series].findLastIndex((value) => value !== null); return at < 0 ? [] : [at]; };
  const acc = tone("--acc"), surface = tone("--sf"), ghost = tone("--ghost"), mut = tone("--mut");
  const led = isLed(curve, state().points);
  const other = (one, index) => ({ stroke: ghost, width: 1.5, dash: DASHES[index % DASHES.length], spanGaps: true, points: { show: false } });
  return {
    ...size(box), legend: { show: false }, cursor: { show: false }, padding: [6, 12, 0, 0],
    scales: { x: { time: false, range: () => [0, lastStep(state())] }, y: { range: (u, low, high) => around(low, high, curve.format === share) } },
    axes: axes({ splits: () => ends(state()) }, (values) => values.map((one) => axis(one, values, curve))),
    series: [{},
      { stroke: tone("--acc-dim"), alpha: 0.45, width: 1, spanGaps: true, points: { show: false } },
      led ? { stroke: tone("--acc-dim"), alpha: 0.7, width: 1.2, spanGaps: true, points: { show: false } }
        : { stroke: acc, width: 2.2, spanGaps: true, points: { show: true, filter: end, size: 7, fill: acc, stroke: surface, width: 1.5 } },
      { stroke: led ? acc : mut, width: led ? 2.2 : 1, spanGaps: true, points: { show: true, size: 7, fill: surface, stroke: led ? acc : mut, width: 1.5 } },
      ...state().others.map(other)],
    hooks: { draw: [(u) => ring(u, curve, state().best, tone("--ok"))] },
  };
}

/** The two axes of any plot here: what stands below it, and how the figures beside it are written. */
export function axes(below, written) {
  const stroke = tone("--mut"), font = '12px "Inter Variable", sans-serif', bare = { show: false };
  return [
    { stroke, font, size: 20, gap: 3, grid: bare, ticks: bare, ...below },
    { stroke, font, size: (u, values) => 12 + 7 * Math.max(2, ...(values ?? []).map((one) => one.length)), gap: 4,
      grid: { stroke: tone("--line"), width: 1 }, ticks: bare, space: 24, values: (u, values) => written(values) },
  ];
}

/** Around the best checkpoint, on the curve by which it is the best. */
function ring(u, curve, best, colour) {
  if (!best || best.metric !== curve.held) return;
  const value = curve.from ? curve.from(best.value) : best.value;
  const x = u.valToPos(best.step, "x", true), y = u.valToPos(value, "y", true), ratio = window.devicePixelRatio || 1;
  u.ctx.save();
  u.ctx.strokeStyle = colour;
  u.ctx.lineWidth = 2 * ratio;
  u.ctx.setLineDash([]);
  u.ctx.beginPath();
  u.ctx.arc(x, y, 6.5 * ratio, 0, 2 * Math.PI);
  u.ctx.stroke();
  u.ctx.restore();
}

export const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const size = (box) => ({ width: Math.max(60, box.clientWidth), height: Math.max(60, box.clientHeight) });
const stepOf = (points) => points.at(-1)?.step ?? 0;
const lastStep = (state) => Math.max(1, state.end, ...state.others.map((other) => stepOf(other.points)));

export function around(low, high, isShare) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.1;
  return isShare ? [Math.max(0, low - room), Math.min(1.02, high + room)] : [low - room, high + room];
}

/** 0, where the run is, and where it will end; where the run is is left out when it would be printed over another. */
function ends(state) {
  const now = stepOf(state.points), last = lastStep(state), apart = last / 6;
  return now > apart && now < last - apart ? [0, now, last] : [0, last];
}

export function axis(value, values, curve) {
  if (curve.format === finely) return `${axis(100 * value, values.map((one) => 100 * one), {})} %`;
  if (curve.format) return curve.format(value);
  const exact = (digits) => values.every((one) => Math.abs(one - Number(one.toFixed(digits))) < 1e-9);
  return value.toFixed([0, 1, 2, 3].find(exact) ?? 4);
}

export const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/^-0\.00$/, "0.00"));

function inWords(name, series, format) {
  if (!series.length) return `${name}: nothing measured yet`;
  const first = series[0][1], last = series.at(-1)[1];
  const way = format(first) === format(last) ? "stays at" : last > first ? `rises from ${format(first)} to` : `falls from ${format(first)} to`;
  return `${name} ${way} ${format(last)}`;
}
