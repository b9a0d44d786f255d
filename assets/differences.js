/* Where answers differ, word by word. The words are marked within the rendered text, so that lists, tables and code stay
   as they are; what is the same in both, in the same order, is left alone. The run page compares plain words (differing). */
(() => {
"use strict";
const { make } = window.Plumbline;

const MOST_CELLS = 1_000_000; // of the table that finds the longest common part; beyond, words that occur once part the text
const SEGMENTS = new Intl.Segmenter(undefined, { granularity: "word" });
const MATHML = "http://www.w3.org/1998/Math/MathML";

/** Marks in `element` what `other` does not say there, both rendered text. Returns how many words only either of them has. */
function mark(element, other) {
  const here = wordsOf(element), there = wordsOf(other);
  const different = differing(there.map((one) => one.text), here.map((one) => one.text));
  for (const run of runsOf(here, different.b).reverse()) wrap(run); // from the end, so that places before stay as they are
  const count = (words, outside) => words.filter(({ isWord }, index) => isWord && outside[index]).length;
  return { here: count(here, different.b), there: count(there, different.a) };
}

function unmark(element) {
  for (const one of element.querySelectorAll("mark")) one.replaceWith(...one.childNodes);
  element.normalize();
}

/* ---- words ---- */

/** Every word and sign in the order of reading: {text, isWord, node, from, to}; a formula is one word. */
function wordsOf(element) {
  const found = [], walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT, skipMath);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) found.push(...wordsIn(node));
    else if (node.localName === "math") found.push({ text: node.textContent, isWord: true, node });
  }
  return found;
}

const isWithinMath = (node) => node.namespaceURI === MATHML && node.localName !== "math" || node.parentNode.namespaceURI === MATHML;
const skipMath = (node) => (isWithinMath(node) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);

function wordsIn(node) {
  const words = [...SEGMENTS.segment(node.data)].filter(({ segment }) => segment.trim());
  return words.map(({ segment, index, isWordLike }) => ({ text: segment, isWord: isWordLike, node, from: index, to: index + segment.length }));
}

/** Neighbours in one text become one mark, with the spaces between them. */
function runsOf(words, different) {
  const runs = [];
  words.forEach((word, index) => {
    if (!different[index]) return;
    const last = runs.at(-1);
    if (last?.until === index - 1 && last.node === word.node && word.from !== undefined) Object.assign(last, { to: word.to, until: index });
    else runs.push({ ...word, until: index });
  });
  return runs;
}

function wrap({ node, from, to }) {
  if (from !== undefined) {
    node.splitText(to);
    node = node.splitText(from);
  }
  const around = make("mark");
  node.replaceWith(around);
  around.append(node);
}

/* ---- what is common ---- */

/** For each of `a` and of `b`, whether it is outside of what both have in common, in order. */
function differing(a, b) {
  const different = { a: a.map(() => true), b: b.map(() => true) };
  common(a, b, { a: 0, b: 0, aEnd: a.length, bEnd: b.length }, (x, y) => { different.a[x] = different.b[y] = false; });
  return different;
}

function common(a, b, { a: i, b: j, aEnd, bEnd }, keep) {
  for (; i < aEnd && j < bEnd && a[i] === b[j]; i++, j++) keep(i, j);
  for (; i < aEnd && j < bEnd && a[aEnd - 1] === b[bEnd - 1]; aEnd--, bEnd--) keep(aEnd - 1, bEnd - 1);
  const part = { a: i, b: j, aEnd, bEnd };
  if (i === aEnd || j === bEnd) return;
  if ((aEnd - i) * (bEnd - j) <= MOST_CELLS) byTable(a, b, part, keep);
  else byAnchors(a, b, part, keep);
}

/** The longest common subsequence: each cell holds how long it is from there on. */
function byTable(a, b, { a: i, b: j, aEnd, bEnd }, keep) {
  const width = bEnd - j + 1, cells = new Uint16Array((aEnd - i + 1) * width), at = (x, y) => (x - i) * width + (y - j);
  for (let x = aEnd - 1; x >= i; x--)
    for (let y = bEnd - 1; y >= j; y--)
      cells[at(x, y)] = a[x] === b[y] ? cells[at(x + 1, y + 1)] + 1 : Math.max(cells[at(x + 1, y)], cells[at(x, y + 1)]);
  for (let x = i, y = j; x < aEnd && y < bEnd;) {
    if (a[x] === b[y]) { keep(x, y); x++; y++; }
    else if (cells[at(x + 1, y)] >= cells[at(x, y + 1)]) x++;
    else y++;
  }
}

/** Words that occur once in both, in the same order, part a long text into short ones; without any, nothing is common. */
function byAnchors(a, b, part, keep) {
  let { a: i, b: j } = part;
  const anchors = increasing(onceInBoth(a, b, part));
  for (const [x, y] of anchors) {
    common(a, b, { a: i, b: j, aEnd: x, bEnd: y }, keep);
    keep(x, y);
    [i, j] = [x + 1, y + 1];
  }
  if (anchors.length) common(a, b, { a: i, b: j, aEnd: part.aEnd, bEnd: part.bEnd }, keep);
}

function onceInBoth(a, b, { a: i, b: j, aEnd, bEnd }) {
  const inB = once(b, j, bEnd);
  return [...once(a, i, aEnd)].filter(([word]) => inB.has(word)).map(([word, x]) => [x, inB.get(word)]);
}

function once(words, from, to) {
  const found = new Map(), often = new Set();
  for (let index = from; index < to; index++) {
    if (found.has(words[index])) often.add(words[index]);
    found.set(words[index], index);
  }
  for (const word of often) found.delete(word);
  return found;
}

/** The longest run of pairs, ordered by the first, in which the second grows too (patience sorting). */
function increasing(pairs) {
  const tops = [];
  for (const [x, y] of pairs) {
    let low = 0, high = tops.length;
    while (low < high) { const mid = (low + high) >> 1; if (tops[mid].y < y) low = mid + 1; else high = mid; }
    tops[low] = { x, y, before: tops[low - 1] };
  }
  const found = [];
  for (let one = tops.at(-1); one; one = one.before) found.unshift([one.x, one.y]);
  return found;
}

Object.assign(window.Plumbline, { differences: { mark, unmark, differing } });
})();
