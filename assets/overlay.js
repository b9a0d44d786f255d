/* Other runs laid under the one that is shown: chosen in a dialog, kept in the address, named by what they have other. */
const { make, fill, button, when, api } = window.Plumbline;

const MOST = 3, NAMED = 3, REFETCH_MS = 5000;

export class Overlay {
  /** `changed` is called when other runs are to be drawn; `failed` with a sentence where one could not be had. */
  constructor(changed, failed) {
    Object.assign(this, { changed, failed, others: [], asked: [], under: "", at: 0 });
  }

  /** Fetches what the address asks for, where it is not here yet, and again what still trains. */
  async follow(id) {
    const asked = wanted().filter((other) => other !== id);
    const news = asked.join() !== this.asked.join() || id !== this.under;
    const moving = this.others.some((other) => other.state === "training") && Date.now() - this.at > REFETCH_MS;
    if (!news && !moving) return;
    Object.assign(this, { asked, under: id, at: Date.now() });
    const fetched = await Promise.all(asked.map((other) => curvesOf(other, id).catch((error) => { this.failed(error.message); return null; })));
    this.others = fetched.filter(Boolean);
    this.changed();
  }

  /** The lines of the legend for the others, each with what it has other than the run shown. */
  legend() {
    return this.others.map((other, index) => make("span", { class: `lg old d${index}` }, make("span", "", ...named(other))));
  }

  open(runs, id, method) {
    const all = runs.filter((run) => run.id !== id && run.state !== "waiting");
    const near = all.filter((run) => run.method === method), far = all.filter((run) => run.method !== method);
    const dialog = make("dialog", { class: "overlay", "aria-label": "Lay another run over" });
    const group = (title, some) => some.length ? [make("h3", "", title), make("ul", "", some.map((run) => make("li", "", this.choice(run, dialog))))] : [];
    fill(dialog, make("div", "row between", make("h2", "", "Lay another run over"), button("x", "Close", () => dialog.close(), "btn sm ghost")),
      all.length ? make("p", "mut small", `Up to ${MOST}. Their curves are drawn dashed under this one's, and only what they have other is named.`)
        : make("p", "mut", "There is no other run yet."),
      group(`Also ${method}`, near), group("Other methods", far));
    dialog.addEventListener("close", () => dialog.remove());
    document.querySelector(".pl.page").append(dialog);
    dialog.showModal();
    allow(dialog);
  }

  choice(run, dialog) {
    const box = make("input", { type: "checkbox", value: run.id, checked: wanted().includes(run.id), onchange: () => {
      choose(wanted().filter((other) => other !== run.id).concat(box.checked ? [run.id] : []));
      allow(dialog);
      this.follow(this.under);
    } });
    return make("label", "", box, make("b", "", run.id), make("span", "mut small", `${run.method}, ${run.state}, ${when(run.ended_at ?? run.created_at)}`));
  }
}

const wanted = () => (new URLSearchParams(location.search).get("over") ?? "").split(",").filter(Boolean).slice(0, MOST);
const curvesOf = (other, id) => api(`/api/runs/${encodeURIComponent(other)}/curves?against=${encodeURIComponent(id)}`);

function choose(others) {
  const address = new URL(location);
  if (others.length) address.searchParams.set("over", others.join(","));
  else address.searchParams.delete("over");
  history.replaceState(null, "", address);
}

function allow(dialog) {
  const boxes = [...dialog.querySelectorAll("input")], full = boxes.filter((box) => box.checked).length >= MOST;
  for (const box of boxes) box.disabled = full && !box.checked;
}

/** dpo-07, differs only in learning_rate: 2e-5 here, 1e-4 there */
function named(other) {
  const all = other.differences, some = all.slice(0, NAMED);
  if (!all.length) return [other.id, ", has the same settings"];
  const parts = some.flatMap((one, index) => [index ? "; " : " ", make("span", "mono", one.name), `: ${shown(one.here)} here, ${shown(one.there)} there`]);
  const rest = all.length - some.length;
  return [other.id, all.length === 1 ? ", differs only in" : ", differs in", ...parts, rest ? `; and ${rest} more` : ""];
}

function shown(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "number" && value !== 0 && Math.abs(value) < 0.01) return value.toExponential().replace("e-0", "e-");
  return Array.isArray(value) ? value.join(" ") : String(value);
}
