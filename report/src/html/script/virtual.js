// A long list of which only what is in sight is on the page.

import { el, setAttributes } from "./dom.js";

/** Rows above and below what is in sight that are on the page too. */
const MARGIN = 6;

/**
 * @typedef {object} RowList
 * @property {HTMLElement} host
 * @property {(count: number, active: number, isNew: boolean) => void} show draws; `active` is the chosen row or −1;
 *   `isNew`: rows say something else than before
 * @property {(row: number) => void} reveal scrolls a row into sight
 */

/**
 * @param {object} options
 * @param {string} options.label
 * @param {string} options.id unique on the page
 * @param {number} options.rowHeight
 * @param {number} options.most the largest height, CSS pixels
 * @param {(row: number, element: HTMLElement) => void} options.fill
 * @param {(row: number, isClick: boolean) => void} options.choose by click or Enter (`isClick`), or by an arrow
 * @param {(event: KeyboardEvent, row: number) => boolean} [options.key] other keys
 * @returns {RowList}
 */
export function rowList({ label, id, rowHeight, most, fill, choose, key }) {
  const rows = el("div", { class: "c-rows", role: "presentation" });
  const host = el("div", { class: "c-row-list", role: "listbox", tabindex: 0, "aria-label": label }, rows);
  /** @type {Map<number, HTMLElement>} */
  const made = new Map();
  let count = 0;
  let active = -1;

  const place = () => {
    const height = host.clientHeight || most;
    const first = Math.max(Math.floor(host.scrollTop / rowHeight) - MARGIN, 0);
    const last = Math.min(Math.ceil((host.scrollTop + height) / rowHeight) + MARGIN, count);
    for (const [row, element] of made) {
      // The active row stays: it is what the list points at.
      if ((row < first || row >= last) && row !== active) {
        element.remove();
        made.delete(row);
      }
    }
    const wanted = [];
    for (let row = first; row < last; row += 1) wanted.push(row);
    if (active >= 0 && active < count && (active < first || active >= last)) wanted.push(active);
    for (const row of wanted) {
      let element = made.get(row);
      if (element === undefined) {
        element = el("div", { class: "c-row", role: "option", id: `${id}-${row}` });
        element.dataset["row"] = String(row);
        element.style.top = `${row * rowHeight}px`;
        element.style.height = `${rowHeight}px`;
        made.set(row, element);
        rows.append(element);
        fill(row, element);
      }
      setAttributes(element, {
        "aria-posinset": row + 1,
        "aria-setsize": count,
        "aria-selected": String(row === active),
      });
      element.classList.toggle("c-active", row === active);
    }
    setAttributes(host, { "aria-activedescendant": active >= 0 && active < count ? `${id}-${active}` : null });
  };

  host.addEventListener("scroll", place, { passive: true });
  host.addEventListener("click", (event) => {
    const element = event.target instanceof Element ? event.target.closest("[data-row]") : null;
    if (!(element instanceof HTMLElement)) return;
    active = Number(element.dataset["row"]);
    choose(active, true);
  });
  host.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || count === 0) return;
    const page = Math.max(Math.floor(host.clientHeight / rowHeight) - 1, 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -count, End: count }[event.key];
    if (step !== undefined) {
      const next = active < 0 && step > 0 && step < count ? 0 : Math.min(Math.max(active + step, 0), count - 1);
      event.preventDefault();
      // The next key may come before the next frame.
      active = next;
      choose(next, false);
    } else if ((event.key === "Enter" || event.key === " ") && active >= 0) {
      event.preventDefault();
      choose(active, true);
    } else if (key?.(event, active) === true) {
      event.preventDefault();
    }
  });

  return {
    host,
    show(nextCount, nextActive, isNew) {
      count = nextCount;
      active = nextActive;
      if (isNew) {
        for (const element of made.values()) element.remove();
        made.clear();
      }
      rows.style.height = `${count * rowHeight}px`;
      host.style.height = `${Math.min(count * rowHeight + 2, most)}px`;
      place();
    },
    reveal(row) {
      if (row < 0) return;
      const top = row * rowHeight;
      if (top < host.scrollTop) host.scrollTop = top;
      else if (top + rowHeight > host.scrollTop + host.clientHeight)
        host.scrollTop = top + rowHeight - host.clientHeight;
    },
  };
}
