/* The dialog that adds a base model. */
(() => {
"use strict";
const { make, fill, icon, say, api } = window.Plumbline;

function addDialog(added) {
  const place = make("input", { id: "base-place", required: true, autofocus: true, autocomplete: "off", spellcheck: "false", placeholder: "/models/my-base or owner/name", "aria-describedby": "base-help" });
  const note = make("input", { id: "base-note", autocomplete: "off" }), problem = make("div");
  const add = make("button", { class: "btn go", type: "submit" }, "Add");
  const form = make("form", { class: "stack", method: "dialog" },
    make("div", "row between", make("h2", { id: "base-title" }, "Add a base model"), make("button", { class: "tool", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("x"))),
    make("div", "f", make("label", { for: "base-place" }, "Folder or Hugging Face id"), place, make("p", { class: "help", id: "base-help" }, "A folder with config.json, *.safetensors and a tokenizer, or an id that was downloaded before. Nothing is downloaded now.")),
    make("div", "f", make("label", { for: "base-note" }, "Note"), note, make("p", "help", "What the next person should know, such as its licence.")),
    problem, make("div", "row between", make("span", "mut small", "It is served at once."), add));
  const dialog = make("dialog", { "aria-labelledby": "base-title", onclose: () => { form.reset(); fill(problem); } }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    add.disabled = true;
    try {
      await api("/api/models", { body: { place: place.value, note: note.value } });
      dialog.close();
      await added();
    } catch (error) {
      fill(problem, say("bad", error.message));
    }
    add.disabled = false;
  });
  return dialog;
}

Object.assign(window.Plumbline, { addDialog });
})();
