// The one store: the only state of the script that changes.

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Action} Action */
/** @typedef {import("./types.js").Store} Store */

/**
 * Keeps a state and tells listeners of each change.
 * @param {State} initial
 * @param {(state: State, action: Action) => State} reduce gives the same object back when nothing changes
 * @returns {Store}
 */
export function createStore(initial, reduce) {
  let state = initial;
  /** @type {Set<(now: State, before: State) => void>} */
  const listeners = new Set();
  return {
    get: () => state,
    update(action) {
      const before = state;
      state = reduce(before, action);
      if (state === before) return;
      for (const listener of [...listeners]) listener(state, before);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
  };
}
