// A list of any length that keeps only the rows in sight in the document.

import { el, setAttribute } from "./dom.js";

const SPARE = 4;

export class VirtualList {
  #items = [];
  #rows = new Map();
  #pool = [];
  #frame = 0;

  /**
   * @param container  a positioned element that scrolls, of role list
   * @param rowHeight  in pixels, the same for every row
   * @param key        the identity of an item
   * @param create     makes an empty row
   * @param update     puts an item into a row
   */
  constructor(container, { rowHeight, key, create, update }) {
    Object.assign(this, { container, rowHeight, key, create, update });
    this.spacer = el("div", { class: "spacer", "aria-hidden": "true" });
    container.append(this.spacer);
    container.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#soon()).observe(container);
  }

  /** Show items; `inserted` says how many of them are new at the top, so that who has scrolled keeps the place. */
  show(items, inserted = 0) {
    this.#items = items;
    this.spacer.style.height = `${items.length * this.rowHeight}px`;
    const top = this.container.scrollTop;
    if (inserted && top > this.rowHeight / 2) this.container.scrollTop = top + inserted * this.rowHeight;
    this.#draw();
  }

  /** Forget all items, and leave none of them in the document. */
  clear() {
    this.show([]);
    this.#pool = [];
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const height = this.container.clientHeight;
    const first = Math.max(0, Math.floor(this.container.scrollTop / this.rowHeight) - SPARE);
    const end = Math.min(this.#items.length, Math.ceil((this.container.scrollTop + height) / this.rowHeight) + SPARE);
    const wanted = new Set();
    for (let index = first; index < end; index += 1) wanted.add(this.key(this.#items[index]));
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      // Whoever moves through the list with the keyboard must not lose the place.
      if (row.contains(document.activeElement)) this.container.focus({ preventScroll: true });
      this.#rows.delete(key);
      row.remove();
      this.#pool.push(row);
    }
    for (let index = first; index < end; index += 1) this.#place(this.#items[index], index);
    this.#order(first, end);
  }

  /** Put the rows into the order in which they are seen, for who hears them; moving the focus's row would lose it. */
  #order(first, end) {
    let next = null;
    for (let index = end - 1; index >= first; index -= 1) {
      const row = this.#rows.get(this.key(this.#items[index]));
      const isWrong = row.parentNode !== this.container || row.nextSibling !== next;
      if (isWrong && !row.contains(document.activeElement)) this.container.insertBefore(row, next);
      next = row;
    }
  }

  #place(item, index) {
    const key = this.key(item);
    let row = this.#rows.get(key);
    const isNew = !row;
    if (isNew) {
      row = this.#pool.pop() ?? this.#make();
      this.#rows.set(key, row);
    }
    row.style.transform = `translateY(${index * this.rowHeight}px)`;
    setAttribute(row, "aria-posinset", String(index + 1));
    setAttribute(row, "aria-setsize", String(this.#items.length));
    this.update(row, item, isNew);
  }

  #make() {
    const row = this.create();
    row.setAttribute("role", "listitem");
    return row;
  }
}
