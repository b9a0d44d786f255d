/* The same held-out prompts, answered as training goes: first, midway and last, with the words marked that are new. */
const { make, fill, count } = window.Plumbline;

/** Draws into `root`. samples: [{step, prompt_index, text}], prompts: [text], names: (step, isFirst, isLast) -> words. */
export function answers(root, samples, prompts, names) {
  const steps = shownSteps(samples);
  root.dataset.show = steps.length - 1;
  fill(root, prompts.map((prompt, index) => make("section", { "aria-label": `Answers to: ${prompt}` },
    make("p", "q", prompt), make("div", { class: "cols", style: `--n:${steps.length}` }, columns(samples, steps, index, names)))));
  return steps;
}

/** First, middle and last of the steps at which every prompt was answered. */
export function shownSteps(samples) {
  const steps = [...new Set(samples.map((sample) => sample.step))].sort((a, b) => a - b);
  return steps.length <= 3 ? steps : [steps[0], steps[Math.floor((steps.length - 1) / 2)], steps.at(-1)];
}

function columns(samples, steps, prompt, names) {
  let before = null;
  return steps.map((step, place) => {
    const text = samples.find((sample) => sample.step === step && sample.prompt_index === prompt)?.text ?? "";
    const paragraph = make("p", "answer");
    if (before === null) paragraph.append(text);
    else paintChange(paragraph, before, text);
    before = text;
    const last = place === steps.length - 1 && place > 0;
    return make("article", "a" + (last ? " now" : ""),
      make("div", "s", make("b", "", `Step ${step}`), make("span", "", names(place === 0, last))),
      text.trim() ? paragraph : make("p", "mut", "(no words)"),
      make("div", "f", count(text.split(/\s+/).filter(Boolean).length, "word")));
  });
}

/** Longest common subsequence over words: [[word, isNew], …] of the later text. */
function changedWords(before, after) {
  const a = before.split(/\s+/), b = after.split(/\s+/);
  const common = Array.from({ length: a.length + 1 }, () => new Array(b.length + 1).fill(0));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
    common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const words = [];
  for (let i = 0, j = 0; j < b.length;) {
    if (i < a.length && a[i] === b[j]) { words.push([b[j++], false]); i++; }
    else if (i < a.length && common[i + 1][j] >= common[i][j + 1]) i++;
    else words.push([b[j++], true]);
  }
  return words;
}

function paintChange(paragraph, before, after) {
  let mark = null;
  changedWords(before, after).forEach(([word, isNew], index) => {
    if (!isNew) { mark = null; paragraph.append((index ? " " : "") + word); return; }
    if (mark) { mark.append(" " + word); return; }
    mark = make("ins", "", word);
    paragraph.append(index ? " " : "", mark);
  });
}
