/* The family of model versions: the base at the left, each version to the right of its parent. */
(() => {
"use strict";
const { make, svgEl } = window.Plumbline;

const WORDS = { served: ["run", "Served"], asleep: ["wait", "Asleep"], starting: ["wait", "Starting"], stored: ["", "Stored"], problem: ["bad", "Problem"] };

/** The kind and the word of a version's state. */
const wordOf = (version) => WORDS[version.state] ?? ["", version.state];

const BOX = { width: 196, height: 62, right: 312, down: 84, letters: 20 }; // between two boxes "Reward model" has room

function family(versions, chosen, choose) {
  const placed = place(versions), line = new Set(ancestors(versions, chosen));
  const width = Math.max(...placed.map((one) => one.x)) + BOX.width + 2, height = Math.max(...placed.map((one) => one.y)) + BOX.height + 2;
  const at = new Map(placed.map((one) => [one.version.id, one]));
  const children = placed.filter((one) => at.has(one.version.parent)).sort((a, b) => line.has(a.version.id) - line.has(b.version.id)); // blue last, on top
  const edges = children.map((one) => edge(at.get(one.version.parent), one, line.has(one.version.id)));
  const nodes = placed.map((one) => node(one, one.version === chosen, () => choose(one.version.id)));
  const drawing = svgEl("svg", { width, height, viewBox: `-1 -1 ${width} ${height}`, role: "group", "aria-label": "Family tree, oldest at the left" }, ...edges, ...nodes);
  return make("section", { class: "card tree", "aria-label": "Family" },
    make("div", "ct", make("h2", "", "Family"), make("span", "mut small", `Blue line: how ${chosen.id} came to be`)),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Family tree" }, drawing));
}

/** The box of the chosen version, with what leads to it where there is room. */
function bringIntoView(scroller, box) {
  const { left, right } = box.querySelector("rect").getBoundingClientRect(), seen = scroller.getBoundingClientRect();
  if (right > seen.right) scroller.scrollLeft += right - seen.right + 2;
  else if (left < seen.left) scroller.scrollLeft -= seen.left - left + 2;
}

/** Columns by generation; the first child stays on its parent's row, each further one takes a row of its own. */
function place(versions) {
  const placed = [], known = new Set(versions.map((version) => version.id)), oldestFirst = [...versions].reverse();
  let rows = 0;
  const put = (version, column, row) => {
    placed.push({ version, x: column * BOX.right, y: row * BOX.down });
    rows = Math.max(rows, row + 1);
    oldestFirst.filter((child) => child.parent === version.id).forEach((child, index) => put(child, column + 1, index ? rows : row));
  };
  for (const root of oldestFirst.filter((version) => !known.has(version.parent))) put(root, 0, rows);
  return placed;
}

function ancestors(versions, version) {
  const parent = versions.find((one) => one.id === version.parent);
  return parent ? [version.id, ...ancestors(versions, parent)] : [version.id];
}

function edge(from, to, isHot) {
  const x = from.x + BOX.width, y = from.y + BOX.height / 2, end = to.y + BOX.height / 2, middle = x + 14;
  const d = y === end ? `M${x} ${y}H${to.x}` : `M${x} ${y}H${middle}V${end - 10}Q${middle} ${end} ${middle + 10} ${end}H${to.x}`;
  return svgEl("g", {}, svgEl("path", { class: isHot ? "e hot" : "e", d }),
    svgEl("text", { class: "el", x: y === end ? (x + to.x) / 2 : (middle + to.x) / 2 + 6, y: end - 7 }, to.version.method ?? ""));
}

function node({ version, x, y }, isChosen, choose) {
  const [, word] = wordOf(version);
  const label = version.id.length > BOX.letters ? version.id.slice(0, BOX.letters - 1) + "…" : version.id;
  const group = svgEl("g", { class: `nd ${version.state}${isChosen ? " sel" : ""}`, tabindex: "0", role: "button", "aria-pressed": String(isChosen), "data-focus": `node-${version.id}` },
    svgEl("title", {}, `${version.id}, ${word.toLowerCase()}`),
    svgEl("rect", { x, y, width: BOX.width, height: BOX.height, rx: 12 }), svgEl("text", { class: "t", x: x + 14, y: y + 26 }, label + " "),
    svgEl("circle", { cx: x + 18, cy: y + 43, r: 4 }), svgEl("text", { class: "s", x: x + 28, y: y + 47.5 }, word));
  group.addEventListener("click", choose);
  group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
  return group;
}

Object.assign(window.Plumbline, { family, bringIntoView, wordOf });
})();
