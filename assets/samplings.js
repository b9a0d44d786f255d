/* How single versions answer, on the projects page: a row a version, to type in where it is to differ from the project.
   Its value {rows, notice} comes from the server and goes back with the form. */
(() => {
"use strict";
const { make, fill, say } = window.Plumbline;
const FIELDS = [["temperature", "Temperature", "decimal"], ["top_p", "Top-p", "decimal"], ["max_tokens", "Longest answer", "numeric"], ["seed", "Seed", "numeric"]];
const SYSTEM = ["system", "System prompt"];

window.Plumbline.samplings = (root, props) => {
  const { value } = props;
  if (!value || JSON.stringify(value) === root.dataset.drawn) return; // what was typed here comes back as it is
  root.dataset.drawn = JSON.stringify(value);
  const typed = (index, name, text) => {
    const rows = props.value.rows.map((row, place) => (place === index ? { ...row, [name]: text } : row));
    root.dataset.drawn = JSON.stringify({ ...props.value, rows });
    props.value = { ...props.value, rows };
  };
  fill(root, value.notice && say("warn", value.notice), value.rows.length > 1 && table(value.rows, typed));
};

function table(rows, typed) {
  const differs = rows.some((row) => [...FIELDS, SYSTEM].some(([name]) => row[name]));
  return make("details", { class: "samplings", open: differs },
    make("summary", "", make("b", "", "Let a version answer otherwise"), make("span", "mut small", " What is left empty is as above.")),
    rows.map((row, index) => line(row, (name, text) => typed(index, name, text))));
}

function line(row, typed) {
  return make("fieldset", {}, make("legend", "b", row.version),
    FIELDS.map(([name, label, mode]) => labelled(label, make("input", { type: "text", inputmode: mode, autocomplete: "off", name, value: row[name], oninput: ({ target }) => typed(name, target.value) }))),
    labelled(SYSTEM[1], Object.assign(make("textarea", { rows: 1, name: SYSTEM[0], oninput: ({ target }) => typed(SYSTEM[0], target.value) }), { value: row.system }), "wide"));
}

const labelled = (label, field, cls = "") => make("label", cls, make("span", "small", label), field);
})();
