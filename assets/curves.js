/* The curves of a run: a thin line for each step, a bold one for the average of the last few, empty space for what is left.

   The plain name comes first, TRL's name of the metric under it, so that an engineer finds it in the paper. */
const { make, fill, percent } = window.Plumbline;

const share = (value) => percent(value);
const CURVES = [
  { key: "loss", name: "Loss" },
  { key: "rewards/margins", name: "Margin" },
  { key: "rewards/accuracies", name: "Accuracy", format: share, range: [0, 1] },
  { key: "kl", name: "Drift from the parent" },
  { key: "mean_token_accuracy", name: "Token accuracy", format: share, range: [0, 1] },
  { key: "entropy", name: "Entropy" },
  { key: "grad_norm", name: "Gradient norm" },
];
const MOST = 4;

/** Draws into `root`; returns {update(points, steps, end), destroy()}. `points` are all of the run so far; it goes to step `end`. */
export function curves(root) {
  let drawn = [], shown = "", last = null;
  const redraw = () => { shown = ""; if (last) update(...last); };
  const resized = new ResizeObserver(() => drawn.forEach((one) => one.plot.setSize(size(one.box))));
  window.addEventListener("plumbline:theme", redraw);

  function update(points, steps, end = steps) {
    last = [points, steps, end];
    const chosen = choose(points);
    const names = chosen.map((curve) => curve.key).join();
    if (names !== shown) rebuild(chosen);
    shown = names;
    for (const one of drawn) one.set(points, steps);
  }

  function rebuild(chosen) {
    resized.disconnect();
    drawn.forEach((one) => one.plot.destroy());
    drawn = [];
    fill(root, chosen.map((curve) => frame(curve)));
    chosen.forEach((curve, index) => drawn.push(draw(curve, root.children[index], () => last[2])));
    drawn.forEach((one) => resized.observe(one.box));
  }

  const destroy = () => {
    resized.disconnect();
    window.removeEventListener("plumbline:theme", redraw);
    drawn.forEach((one) => one.plot.destroy());
  };
  return { update, destroy };
}

/** Those that the run has measured; loss and gradient norm always, between them the method's own. */
function choose(points) {
  const has = (curve) => points.some((point) => Number.isFinite(point[curve.key]));
  const there = CURVES.filter(has), tail = there.filter((curve) => curve.key === "grad_norm");
  return [...there.filter((curve) => curve.key !== "grad_norm").slice(0, MOST - tail.length), ...tail];
}

/** How many steps an average covers: a twentieth of the run, at least five. */
export const windowOf = (steps) => Math.max(5, Math.round(steps / 20));

function frame(curve) {
  return make("div", "curve",
    make("div", "v", make("h3", "", curve.name), make("b", "num")),
    make("div", { class: "k", title: curve.key }, curve.key),
    make("div", { class: "plot", role: "img" }));
}

function draw(curve, element, steps) {
  const box = element.querySelector(".plot"), value = element.querySelector("b");
  const format = curve.format ?? short;
  const plot = new window.uPlot(options(curve, box, steps, format), [[], [], []], box);
  return { plot, box, set(points, planned) {
    const there = points.filter((point) => Number.isFinite(point[curve.key]));
    const raw = there.map((point) => point[curve.key]), smooth = average(there, curve.key, windowOf(planned));
    plot.setData([there.map((point) => point.step), raw, smooth]);
    value.textContent = smooth.length ? format(smooth.at(-1)) : "";
    box.setAttribute("aria-label", inWords(curve, smooth, format));
  } };
}

function options(curve, box, steps, format) {
  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const font = '12px "Inter Variable", sans-serif';
  const end = (u, series) => [u.data[series].length - 1];
  return {
    ...size(box), legend: { show: false }, cursor: { show: false }, padding: [6, 12, 0, 0],
    scales: { x: { time: false, range: () => [0, Math.max(1, steps())] }, y: { range: (u, low, high) => around(low, high, curve.range) } },
    axes: [
      { stroke: tone("--mut"), font, size: 20, gap: 3, grid: { show: false }, ticks: { show: false }, splits: (u) => ends(u, steps()) },
      { stroke: tone("--mut"), font, size: (u, values) => 12 + 7 * Math.max(2, ...(values ?? []).map((one) => one.length)), gap: 4,
        grid: { stroke: tone("--line"), width: 1 }, ticks: { show: false }, space: 24, values: (u, values) => values.map((one) => axis(one, values, curve)) },
    ],
    series: [{},
      { stroke: tone("--acc-dim"), alpha: 0.45, width: 1, points: { show: false } },
      { stroke: tone("--acc"), width: 2.2, points: { show: true, filter: end, size: 7, fill: tone("--acc"), stroke: tone("--sf"), width: 1.5 } }],
  };
}

const size = (box) => ({ width: Math.max(60, box.clientWidth), height: Math.max(60, box.clientHeight) });

function around(low, high, fixed) {
  if (fixed) return fixed;
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - room, high + room];
}

/** 0, where the run is, and where it will end; where the run is is left out when it would be printed over another. */
function ends(u, steps) {
  const now = u.data[0].at(-1) ?? 0, apart = steps / 6;
  return now > apart && now < steps - apart ? [0, now, steps] : [0, steps];
}

function axis(value, values, curve) {
  if (curve.format) return curve.format(value);
  const exact = (digits) => values.every((one) => Math.abs(one - Number(one.toFixed(digits))) < 1e-9);
  return value.toFixed([0, 1, 2, 3].find(exact) ?? 4);
}

const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Mean over the last `span` steps up to each point. */
function average(points, key, span) {
  let from = 0, sum = 0;
  return points.map((point, index) => {
    sum += point[key];
    while (points[from].step <= point.step - span) sum -= points[from++][key];
    return sum / (index - from + 1);
  });
}

function inWords(curve, values, format) {
  if (!values.length) return `${curve.name}: nothing measured yet`;
  const first = values[0], last = values.at(-1);
  const way = format(first) === format(last) ? "stays at" : last > first ? `rises from ${format(first)} to` : `falls from ${format(first)} to`;
  return `${curve.name} ${way} ${format(last)}`;
}
