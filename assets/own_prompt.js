/* A prompt of one's own at the compare page: the field to type it in, and the answers as they are written. */
(() => {
"use strict";
const { make, fill, button } = window.Plumbline;
const GONE = "The connection was lost before both answers were whole. Nothing was stored; ask again.";
const WHOLE = "Shown once both answers are whole: an endpoint writes at a pace of its own, which would tell who it is.";
const NOTE = "Your vote on it is kept, and stands apart from the win rate: that is measured on held-out prompts, which nobody chose.";

/** The form. ask(text) is called with what is typed; paint(true) shows the button that stops the answers instead. */
function ownPrompt({ ask, stop }) {
  const field = make("textarea", { rows: 1, maxlength: 20_000, "aria-label": "Ask both versions a prompt of your own", placeholder: "Ask both a prompt of your own",
    onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); } } });
  const go = button("arrow-up", "Ask both", () => send()), halt = button("square", "Stop", stop);
  const said = make("p", { class: "say bad", role: "alert", hidden: true });
  const send = () => field.value.trim() && ask(field.value.trim());
  const element = make("section", { class: "own", "aria-label": "A prompt of your own" }, make("div", "row", field, go, halt), said, make("p", "mut small", NOTE));
  const paint = (asking, sentence = "") => {
    go.hidden = asking;
    halt.hidden = !asking;
    said.hidden = !sentence;
    said.textContent = sentence;
  };
  paint(false);
  return { element, paint, clear: () => { field.value = ""; } };
}

/** Two cards that fill as pieces come; or, `whole`, that say why none do. */
function coming(cards, whole) {
  const texts = cards.map(({ element }) => {
    const text = element.querySelector(".text");
    text.classList.add("coming");
    fill(text, whole ? make("span", "mut", WHOLE) : "");
    return text;
  });
  return {
    add: (place, piece) => texts[place].append(piece),
    end: (place) => texts[place].classList.remove("coming"),
  };
}

/** Asks, and calls heard(event) for each event, until the stream ends or `signal` aborts it. Throws a sentence. */
async function listen(body, signal, heard) {
  const response = await fetch("/api/compare/ask", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.error ?? GONE);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", last = {};
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) heard((last = JSON.parse(event.slice("data: ".length))));
  }
  if (last.error) throw new Error(last.error);
  if (!last.item) throw new Error(GONE);
}

Object.assign(window.Plumbline, { ownPrompt: { form: ownPrompt, coming, listen } });
})();
