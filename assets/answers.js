/* The same held-out prompts, answered as training goes: first, midway and last, with the words marked that are new. */
import "./differences.js";

const { make, fill, count, differences } = window.Plumbline;

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

/** Writes the later text, with the words marked that the earlier one does not have there; neighbours share a mark. */
function paintChange(paragraph, before, after) {
  const words = after.split(/\s+/), isNew = differences.differing(before.split(/\s+/), words).b;
  let mark = null;
  words.forEach((word, index) => {
    if (!isNew[index]) { mark = null; paragraph.append((index ? " " : "") + word); return; }
    if (mark) { mark.append(" " + word); return; }
    mark = make("ins", "", word);
    paragraph.append(index ? " " : "", mark);
  });
}
