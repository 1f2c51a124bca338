// Words for those who hear the page instead of seeing it.

import { el, setText } from "./dom.js";

/** Changes that follow each other faster than this are told once, the last one. */
const PAUSE_MS = 200;

/**
 * @param {HTMLElement} body
 * @returns {(text: string) => void}
 */
export function announcer(body) {
  const region = el("div", { class: "unseen", role: "status", "aria-live": "polite" });
  body.append(region);
  let waiting = 0;
  return (text) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => setText(region, text), PAUSE_MS);
  };
}
