/* The label page within the projects page, as labelers will see it: it can be tried, and nothing is stored. */
(() => {
"use strict";
const { newKey, LabelPage } = window.Plumbline;

/** The same item again and again, of the project as the form describes it. */
class PreviewFeed {
  constructor({ changed }) {
    Object.assign(this, { changed, project: null, projects: [], progress: null, error: null, ahead: [] });
  }

  show({ project, item }) {
    Object.assign(this, { project, item });
    this.changed();
  }

  next() {
    return this.item ? { ...this.item, assignment: newKey() } : null;
  }

  async refill() {}
  async history() { return []; }
  forget() {}
}

/** Takes everything and keeps nothing. */
class PreviewOutbox {
  size = 0;
  put() {}
  waiting() { return []; }
}

const pages = new WeakMap();

window.Plumbline.preview = (root, value) => {
  if (!value) return;
  if (!pages.has(root)) pages.set(root, new LabelPage(root, { keyboard: root, makeOutbox: () => new PreviewOutbox(), makeFeed: (given) => new PreviewFeed(given) }));
  const page = pages.get(root);
  page.entry = null; // the item is drawn anew, because the project may ask something else of it
  page.past = [];
  page.feed.show(value);
};
})();
