/* What the judgments of a comparison say so far: a conclusion no stronger than its interval, and what could fool us. */
(() => {
"use strict";
const { make, fill, say, interval, withInterval, count } = window.Plumbline;

/** Draws the card. `judged`: the length of the answers is said only then, because it would give the longer one away. */
function results(element, found, { judged }) {
  if (!found) return fill(element);
  if (!found.judgments) return fill(element, heading(), say("", found.verdict), own(found));
  fill(element, heading(), make("section", { class: "card verdict", "aria-label": "Verdict" },
    make("div", "stack", conclusion(found), picture(found), basis(found)),
    make("div", "stack", say(found.settled ? "ok" : "warn", found.verdict), effects(found, judged))), own(found));
}

/** Votes that do not count above. */
const own = ({ own: votes }) => votes > 0 && make("p", "mut small num",
  `${count(votes, "more vote")} on prompts that people asked themselves ${votes === 1 ? "is" : "are"} kept apart.`);

const heading = () => make("div", "ct", make("h2", "", "What the judgments say so far"),
  make("span", "mut small not-s", "Letters are shuffled for every prompt, so this gives nothing away."));

const conclusion = ({ title, leader, wins }) => make("div", "row between", make("p", "big", title),
  make("p", { class: "big num", title: `Share of judgments that ${leader} wins, with its 95 % interval` }, numbers(leader, wins)));

function numbers(leader, wins) {
  const [share, ...range] = withInterval(wins).split(" [");
  return [share, " ", make("small", "", `[${range} for ${leader}`)];
}

function picture({ leader, other, wins }) {
  const words = `${leader} wins ${withInterval(wins)} against ${other}; even is 50 %`;
  return make("div", { role: "img", "aria-label": words }, interval({ ...wins, mid: 0.5 }),
    make("div", { class: "ticks", "aria-hidden": "true" }, make("span", "", "0 %"), make("span", "", "even, 50 %"), make("span", "", "100 %")));
}

const basis = ({ judgments, people, prompts, ...found }) => make("p", "num", "Of ",
  make("b", "", `${count(judgments, "blind judgment")} by ${count(people, "person", "people")}`),
  ` on ${count(prompts, "prompt")}; ${halves(found)}.`);

/** "1 tie, 1 both bad; each counts half a win" */
function halves({ ties, both_bad: bad }) {
  if (!ties && !bad) return "no ties";
  const said = [ties && count(ties, "tie"), bad && `${bad.toLocaleString("en")} both bad`].filter(Boolean).join(", ");
  return `${said}; ${ties + bad === 1 ? "it" : "each"} counts half a win`;
}

const effects = ({ position, length }, judged) => make("dl", "eff small",
  make("dt", "", "Position"), make("dd", "num", position),
  make("dt", "", "Length"), make("dd", "num", judged ? length : "Shown once you have judged; before, it could give an answer away."));

Object.assign(window.Plumbline, { results });
})();
