/* Who answers, on the models page: model servers, each with a light that means that tokens come while somebody waits for
   them, and endpoints, each with the light of its last request. */
(() => {
"use strict";
const { make, fill, state, count } = window.Plumbline;

const NUMBERS = ["Tokens a second", "Answering", "Waiting", "Latency", "Answers given"];

const serversCard = () => liveCard("Servers", "Speed is that of the last 20 seconds.", ["Server", "State", "Tokens a second", "Answering", "Waiting", "Versions"], serverRow);
const endpointsCard = () => liveCard("Endpoints", "Those that the settings name. Speed is that of the last 200 answers.", ["Endpoint", "State", "Tokens a second", "Latency", "Answers given"], endpointRow);

/** A table of what changes by the second, hidden while it has no row. */
function liveCard(name, note, heads, rowOf) {
  const rows = make("tbody"), head = make("tr", "", heads.map((one) => make("th", NUMBERS.includes(one) ? "n" : "", one)));
  const card = make("section", { class: "card servers", "aria-label": name, hidden: true },
    make("div", "ct", make("h2", "", name), make("span", "mut small", note)),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${name.toLowerCase()}` }, make("table", "tpad", make("thead", "", head), rows)));
  let shown = "", words = "";
  /** Draws what is new; returns whether the state of any row changed. */
  function show(all) {
    card.hidden = !all.length;
    if (shown === (shown = JSON.stringify(all))) return false;
    fill(rows, all.map((one) => said(rowOf(one), one.sentence, heads.length)));
    const before = words;
    words = all.map((one) => one.word).join();
    return before !== "" && before !== words;
  }
  return { card, show };
}

const said = (row, sentence, width) => (sentence ? [row, make("tr", "said", make("td", { colspan: width }, make("p", "", sentence)))] : [row]);

const whole = (number) => Math.round(number).toLocaleString("en");

const seconds = (number) => `${number.toFixed(number < 10 ? 1 : 0)} s`;

const serverRow = (server) => make("tr", "",
  make("td", "", make("b", "", server.base), make("span", "sub", server.engine), !server.is_ours && make("span", "sub", server.url)), make("td", "", state(server.light, server.word)),
  make("td", "n", whole(server.tokens_per_second)), make("td", "n", whole(server.running)), make("td", "n", whole(server.waiting)), make("td", "", server.versions.join(", ")));

const endpointRow = ({ id, url, light, word, used }) => make("tr", "",
  make("td", "", make("b", "", id), make("span", "sub", url)), make("td", "", state(light, word)),
  make("td", "n", used.requests && used.tokens ? whole(used.tokens_per_second) : ""), make("td", "n", used.requests ? seconds(used.seconds_a_request) : ""), make("td", "n", whole(used.requests)));

const usedFacts = (used) => [["Speed", `${whole(used.tokens_per_second)} tokens a second, while somebody waits`],
  ["Latency", `${seconds(used.seconds_a_request)} a request, the median`],
  ["Asked", `${count(used.requests, "time")}, ${used.tokens.toLocaleString("en")} tokens given${used.in_flight ? `; ${used.in_flight} being answered` : ""}`]]
  .map(([name, value]) => [make("dt", "", name), make("dd", "num", value)]);

Object.assign(window.Plumbline, { serversCard, endpointsCard, usedFacts });
})();
