/* The model servers on the models page: each with a light that means that tokens come while somebody waits for them. */
(() => {
"use strict";
const { make, fill, state, count } = window.Plumbline;

function serversCard() {
  const rows = make("tbody"), heads = ["Server", "State", "Tokens a second", "Answering", "Waiting", "Versions"];
  const head = make("tr", "", heads.map((name, column) => make("th", column > 1 && column < 5 ? "n" : "", name)));
  const card = make("section", { class: "card servers", "aria-label": "Servers", hidden: true },
    make("div", "ct", make("h2", "", "Servers"), make("span", "mut small", "Speed is that of the last 20 seconds.")),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of servers" }, make("table", "tpad", make("thead", "", head), rows)));
  let shown = "", words = "";
  /** Draws what is new; whether a server does something else than when it was shown last. */
  function show(servers) {
    card.hidden = !servers.length;
    if (shown === (shown = JSON.stringify(servers))) return false;
    fill(rows, servers.map(serverRows));
    const before = words;
    words = servers.map((server) => server.word).join();
    return before !== "" && before !== words;
  }
  return { card, show };
}

function serverRows(server) {
  const row = make("tr", "", make("td", "", make("b", "", server.base), make("span", "sub", server.engine), !server.is_ours && make("span", "sub", server.url)), make("td", "", state(server.light, server.word)),
    make("td", "n", Math.round(server.tokens_per_second).toLocaleString("en")), make("td", "n", server.running.toLocaleString("en")), make("td", "n", server.waiting.toLocaleString("en")),
    make("td", "", server.versions.join(", ")));
  return server.sentence ? [row, make("tr", "said", make("td", { colspan: 6 }, make("p", "", server.sentence)))] : [row];
}

const usedFacts = (used) => [["Speed", `${Math.round(used.tokens_per_second).toLocaleString("en")} tokens a second, while somebody waits`],
  ["Latency", `${used.seconds_a_request.toFixed(used.seconds_a_request < 10 ? 1 : 0)} s a request, the median`],
  ["Asked", `${count(used.requests, "time")}, ${used.tokens.toLocaleString("en")} tokens given${used.in_flight ? `; ${used.in_flight} being answered` : ""}`]]
  .map(([name, value]) => [make("dt", "", name), make("dd", "num", value)]);

Object.assign(window.Plumbline, { serversCard, usedFacts });
})();
