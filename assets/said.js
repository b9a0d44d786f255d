/* What came of a button: one sentence, with a link on where there is one. Text enters by textContent only. */
(() => {
"use strict";
const { make, say, fill } = window.Plumbline;

window.Plumbline.said = (root, value) => {
  if (!value) return fill(root);
  const ways = value.link ? [make("a", { class: "b nw", href: value.link.href }, value.link.text)] : [];
  const box = say(value.kind, value.text, { ways });
  box.setAttribute("role", value.kind === "bad" ? "alert" : "status");
  fill(root, box);
  box.scrollIntoView({ block: "nearest" }); // the button may be the last thing above the fold
};
})();
