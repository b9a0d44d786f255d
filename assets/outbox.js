/* The outbox: what a person submitted, kept in this browser until the server has it.

   Each entry is a localStorage item of its own, so tabs never overwrite each other's, and carries a key that the server
   knows it by: sending it twice changes nothing. Any tab sends what any tab left, and tells the others what came of it.
   Entries of other people who used this browser wait for them. */
(() => {
"use strict";
const { api, newKey, words } = window.Plumbline;

const PREFIX = "plumbline-outbox-";
const PATHS = { judge: "/api/label/judge", skip: "/api/label/skip" };
const AFTER_A_FRAME = 25; // the next item is painted first
const WAIT_FIRST = 1500, WAIT_LONGEST = 15000;
const LONGEST_KEPT_ALIVE = 60_000; // browsers refuse a request beyond 64 KiB that is to outlive its page
const WAITS = [0, 401, 403, 408, 425, 429]; // not the entry's fault: it is kept and sent again

const keptAlive = (body) => new Blob([JSON.stringify(body)]).size < LONGEST_KEPT_ALIVE;

class Outbox {
  /** Calls changed(state, waiting, sentence) with saved, saving or offline; delivered(entry, answer); refused(entry, sentence). */
  constructor({ changed = () => {}, delivered = () => {}, refused = () => {} }) {
    Object.assign(this, { changed, delivered, refused });
    this.labeler = null;
    this.unkept = new Map(); // entries that localStorage had no room for
    this.sending = null; // a promise while what waits is being sent
    this.soon = null; // the timer of what was put here just now
    this.wait = WAIT_FIRST;
    this.number = 0;
    this.mine = new Set(); // keys of what was put here, and not in another tab
    this.tabs = new BroadcastChannel("plumbline-outbox");
    this.tabs.onmessage = ({ data: [happened, entry, answer] }) => this.mine.has(entry.key) && this[happened](entry, answer);
    window.addEventListener("online", () => this.flush());
    window.addEventListener("pagehide", () => this.soon && this.flush()); // what waits for its frame is not left behind
    window.addEventListener("beforeunload", (event) => this.unkept.size && event.preventDefault());
  }

  /** Whose entries to send; nothing is sent before this is known. */
  belongsTo(labeler) {
    if (this.labeler === labeler) return;
    this.labeler = labeler;
    this.flush();
  }

  put(kind, body) {
    const entry = { kind, body, labeler: this.labeler, key: body.key ?? newKey() };
    this.mine.add(entry.key);
    this.keep(`${PREFIX}${Date.now()}-${String(this.number++).padStart(6, "0")}-${entry.key}`, entry);
    this.changed("saving", this.size, "");
    this.soon = setTimeout(() => this.flush(), AFTER_A_FRAME);
    return entry;
  }

  /** As it is now: what is said later about the same item is none of it. */
  keep(name, entry) {
    const text = JSON.stringify(entry);
    try {
      localStorage.setItem(name, text);
    } catch {
      this.unkept.set(name, JSON.parse(text));
    }
  }

  /** This person's entries as [name, entry], in the order in which they were submitted. */
  waiting() {
    const kept = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX))
      .map((name) => [name, JSON.parse(localStorage.getItem(name))]);
    return [...kept, ...this.unkept].filter(([, entry]) => entry?.labeler === this.labeler)
      .sort(([one], [other]) => (one < other ? -1 : 1));
  }

  get size() {
    return this.waiting().length;
  }

  /** Whether something about this assignment is on its way, so that it is not shown again. */
  holds(assignment) {
    return this.waiting().some(([, entry]) => entry.body.assignment === assignment);
  }

  /** Done once nothing waits any more, or the server cannot be reached. */
  async flush() {
    this.soon = null;
    if (this.labeler === null) return;
    await (this.sending ??= this.sendAll().finally(() => { this.sending = null; }));
  }

  /** One after the other: a changed judgment must arrive after the one that it replaces. */
  async sendAll() {
    clearTimeout(this.timer);
    for (let next = this.waiting()[0]; next; next = this.waiting()[0]) {
      this.changed("saving", this.size, "");
      if (!(await this.send(...next))) return;
    }
    this.changed("saved", 0, "");
  }

  /** True where the entry is off the list: stored by the server, or refused for good. */
  async send(name, entry) {
    try {
      const answer = await api(PATHS[entry.kind], { body: entry.body, keepalive: keptAlive(entry.body) });
      this.off(name, "delivered", entry, answer);
    } catch (error) {
      if (WAITS.includes(error.status) || error.status >= 500) return this.later(error);
      if (this.handOn(entry)) this.drop(name);
      else this.off(name, "refused", entry, words.error(error));
    }
    this.wait = WAIT_FIRST;
    return true;
  }

  off(name, happened, entry, answer) {
    this.drop(name);
    this.tabs.postMessage([happened, entry, answer]);
    this[happened](entry, answer);
  }

  /** Whether a change of a refused judgment waits: it is what the person says now, and supersedes what the refused one would have. */
  handOn({ key, body }) {
    const [name, next] = this.waiting().find(([, one]) => one.body.supersedes === key) ?? [];
    if (!next) return false;
    this.keep(name, { ...next, body: { ...next.body, supersedes: body.supersedes ?? null } });
    return true;
  }

  later(error) {
    this.changed("offline", this.size, error.status === 0 ? "" : words.error(error));
    this.timer = setTimeout(() => this.flush(), this.wait);
    this.wait = Math.min(2 * this.wait, WAIT_LONGEST);
    return false;
  }

  drop(name) {
    this.unkept.delete(name);
    localStorage.removeItem(name);
  }
}

Object.assign(window.Plumbline, { Outbox });
})();
