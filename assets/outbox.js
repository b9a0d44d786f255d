/* The outbox: what a person submitted, kept in this browser until the server has it.

   Each entry is a localStorage item of its own, so tabs never overwrite each other's, and carries a key that the server
   knows it by: sending it twice changes nothing. Entries of other people who used this browser wait for them. */
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
    this.sending = false;
    this.soon = null; // the timer of what was put here just now
    this.wait = WAIT_FIRST;
    this.number = 0;
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
    const name = `${PREFIX}${Date.now()}-${String(this.number++).padStart(6, "0")}-${entry.key}`;
    try {
      localStorage.setItem(name, JSON.stringify(entry));
    } catch {
      this.unkept.set(name, entry);
    }
    this.changed("saving", this.size, "");
    this.soon = setTimeout(() => this.flush(), AFTER_A_FRAME);
    return entry;
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

  /** Sends what waits, one after the other: a changed judgment must arrive after the one that it replaces. */
  async flush() {
    this.soon = null;
    if (this.sending || this.labeler === null) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      for (let next = this.waiting()[0]; next; next = this.waiting()[0]) {
        this.changed("saving", this.size, "");
        if (!(await this.send(...next))) return;
      }
      this.changed("saved", 0, "");
    } finally {
      this.sending = false;
    }
  }

  /** True where the entry is off the list: stored by the server, or refused for good. */
  async send(name, entry) {
    try {
      const answer = await api(PATHS[entry.kind], { body: entry.body, keepalive: keptAlive(entry.body) });
      this.drop(name);
      this.delivered(entry, answer);
    } catch (error) {
      if (WAITS.includes(error.status) || error.status >= 500) return this.later(error);
      this.drop(name);
      this.refused(entry, words.error(error));
    }
    this.wait = WAIT_FIRST;
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
