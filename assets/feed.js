/* The feed: the next items, fetched while the person still reads the present one, and the seconds spent on it.

   The server leases items to a tab and returns the same ones until they are judged, so asking again is harmless and a
   reload finds what was open. */
(() => {
"use strict";
const { api, newKey } = window.Plumbline;

const AHEAD = 3;
const IDLE_AFTER = 120; // seconds without a sign of life; reading a long answer shows scrolls and small movements

/** This tab's name. It survives a reload; a duplicated tab, which inherits it, takes a new one. */
async function tabName() {
  const stored = sessionStorage.getItem("plumbline-tab") ?? newKey();
  const name = (await isFree(stored)) ? stored : newKey();
  if (name !== stored) await isFree(name);
  sessionStorage.setItem("plumbline-tab", name);
  return name;
}

/** Claims a name for as long as this page lives. Browsers allow locks on secure origins only; elsewhere all are free. */
function isFree(name) {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((answer) => {
    navigator.locks.request(`plumbline-tab-${name}`, { ifAvailable: true }, (lock) => {
      answer(lock !== null);
      return lock && new Promise(() => {});
    });
  });
}

let tab = null; // a promise of this tab's name, asked for once

class Feed {
  /** changed() is called after every answer of the server; `error` then says what was wrong, if anything was. */
  constructor({ outbox, project = "", changed }) {
    Object.assign(this, { outbox, changed, wanted: project });
    this.ahead = [];
    this.seen = new Set();
    this.project = this.progress = this.person = this.error = null;
    this.projects = [];
    this.busy = null;
  }

  /** The next item, or null while there is none. Handing out the last one asks for more. */
  next() {
    const item = this.ahead.shift() ?? null;
    if (item && this.ahead.length === 0) this.refill();
    return item;
  }

  /** It may come again: the server has no judgment of it. */
  forget(assignment) {
    this.seen.delete(assignment);
  }

  /** What this person judged last, oldest first; nothing where the server cannot be asked. */
  async history() {
    if (!this.project) return [];
    const path = `/api/label/history?${new URLSearchParams({ project: this.project.id })}`;
    const answer = await api(path).catch(() => ({ judged: [] }));
    return answer.judged.reverse();
  }

  /** One request at a time; whoever asks meanwhile gets one more after it, because that one may be out of date. */
  refill() {
    this.again = this.busy !== null;
    this.busy ??= this.fetchAll().finally(() => { this.busy = null; });
    return this.busy;
  }

  async fetchAll() {
    do {
      this.again = false;
      await this.fetch();
    } while (this.again);
  }

  async fetch() {
    try {
      tab ??= tabName();
      const count = Math.min(100, 1 + AHEAD + this.outbox.size);
      this.take(await api(`/api/label/next?${new URLSearchParams({ project: this.wanted, count, tab: await tab })}`));
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.changed();
  }

  take(answer) {
    if (this.person !== null && this.person !== answer.person) location.reload(); // somebody else sits here now
    this.wanted ||= answer.project?.id ?? ""; // a project made meanwhile takes nobody from the one they are in
    Object.assign(this, { project: answer.project, progress: answer.progress, person: answer.person, projects: answer.projects });
    this.outbox.belongsTo(answer.person);
    const leased = new Set(answer.items.map((item) => item.assignment));
    const lapsed = this.ahead.filter((item) => !leased.has(item.assignment));
    for (const item of lapsed) this.seen.delete(item.assignment); // it may be leased to this tab again
    this.ahead = this.ahead.filter((item) => leased.has(item.assignment));
    for (const item of answer.items) {
      if (this.seen.has(item.assignment) || this.outbox.holds(item.assignment)) continue;
      this.seen.add(item.assignment);
      this.ahead.push(item);
    }
  }
}

/** Counts the seconds in which the page is in front and somebody is there. */
class Attention {
  constructor() {
    this.restart();
    const sign = () => this.settle(true);
    for (const name of ["keydown", "pointermove", "pointerdown", "wheel", "scroll"]) {
      window.addEventListener(name, sign, { passive: true, capture: true });
    }
    for (const name of ["focus", "blur"]) window.addEventListener(name, () => this.settle(name === "focus"));
    document.addEventListener("visibilitychange", () => this.settle(!document.hidden));
  }

  restart(seconds = 0) {
    this.total = seconds;
    this.since = this.lastSign = performance.now();
    this.attending = document.hasFocus() && !document.hidden;
  }

  /** Books the time since the last call, as far as somebody was there. */
  settle(sign = false) {
    const now = performance.now();
    if (this.attending) this.total += Math.max(0, Math.min(now, this.lastSign + 1000 * IDLE_AFTER) - this.since) / 1000;
    this.since = now;
    if (sign) this.lastSign = now;
    this.attending = document.hasFocus() && !document.hidden;
  }

  seconds() {
    this.settle();
    return Math.round(10 * this.total) / 10;
  }
}

Object.assign(window.Plumbline, { Feed, Attention });
})();
