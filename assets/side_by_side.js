/* Answers side by side: long ones scroll together, and where they differ can be marked.

   It stays switched on for the next items, until it is switched off. Two answers are compared with each other; of more,
   all others with the one that was in focus when it was switched on, and on the next items with the first, so that
   nothing changes while one ranks. */
(() => {
"use strict";
const { cards: { painted }, differences } = window.Plumbline;

const PAGE = 0.85; // of what is seen: the last lines stay in sight

class SideBySide {
  constructor() {
    Object.assign(this, { cards: [], on: false, reference: 0, put: new WeakMap() });
    this.sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => reach(target)));
  }

  /** The cards of another item, which is painted before it is marked. */
  show(cards) {
    this.sizes.disconnect();
    this.cards = cards;
    this.reference = 0;
    if (cards.length > 1) for (const { text } of cards) this.watch(text);
    if (this.on) painted(() => this.cards === cards && this.on && this.mark());
  }

  get possible() {
    return this.cards.length > 1;
  }

  /* ---- where they differ ---- */

  toggle(reference) {
    this.on = !this.on;
    this.reference = reference;
    if (this.on) this.mark();
    else this.unmark();
  }

  /** Each card says with which one it was compared, and on how many words they differ. */
  mark() {
    if (!this.possible) return;
    this.unmark();
    const { cards, reference } = this, originals = cards.map(({ text }) => text.cloneNode(true));
    cards.forEach((card, index) => {
      const other = index !== reference ? reference : cards.length === 2 ? 1 - index : null;
      card.paintDifference(other === null ? {} : { letter: cards[other].letter, ...differences.mark(card.text, originals[other]) });
    });
  }

  unmark() {
    for (const card of this.cards) { differences.unmark(card.text); card.paintDifference(null); }
  }

  /* ---- scrolling together ---- */

  watch(text) {
    this.sizes.observe(text);
    text.addEventListener("scroll", () => this.follow(text), { passive: true });
  }

  /** All others go as far, as a share of their own length. What was put there by this is no scrolling of a person's. */
  follow(text) {
    if (Math.abs(text.scrollTop - (this.put.get(text) ?? -9)) < 2) return;
    this.put.delete(text);
    const share = text.scrollTop / Math.max(1, hidden(text));
    for (const { text: other } of this.cards) {
      if (other === text || hidden(other) <= 0) continue;
      other.scrollTop = share * hidden(other);
      this.put.set(other, other.scrollTop);
    }
  }

  /** By pages, from anywhere on the page; false where no answer has more to show that way. */
  scroll(direction) {
    const [longest] = this.cards.map(({ text }) => text).sort((one, other) => hidden(other) - hidden(one));
    if (!longest || !canScroll(longest, direction)) return false;
    longest.scrollTop += direction * PAGE * longest.clientHeight;
    return true;
  }
}

const hidden = (text) => text.scrollHeight - text.clientHeight;

/** Whether there is more of it: below (1) or above (-1). Places are fractions of a pixel where the page is zoomed. */
const canScroll = (text, direction) => (direction > 0 ? hidden(text) - text.scrollTop > 1 : text.scrollTop > 1) && hidden(text) > 1;

/** What scrolls can be reached by keyboard; what does not is no stop on the way. */
function reach(text) {
  if (hidden(text) > 1 || text.scrollWidth > text.clientWidth) text.tabIndex = 0;
  else text.removeAttribute("tabindex");
}

Object.assign(window.Plumbline, { SideBySide, canScroll });
})();
