// Where labels go so that none covers another.

/**
 * Puts intervals on rows, each on the first row with room.
 * @param {readonly { x: number, width: number }[]} items in the order of their importance
 * @param {number} rows
 * @param {number} apart the least distance between two
 * @returns {number[]} the row of each; −1: no room
 */
export function onRows(items, rows, apart) {
  /** @type {[number, number][][]} */
  const taken = Array.from({ length: rows }, () => []);
  return items.map(({ x, width }) => {
    const row = taken.findIndex((spots) => spots.every(([from, to]) => x + width + apart <= from || x >= to + apart));
    taken[row]?.push([x, x + width]);
    return row;
  });
}

/**
 * Moves labels of one height apart, each as near to its place as the others let it.
 * @param {readonly number[]} places the middles that are wanted
 * @param {number} height
 * @param {number} low
 * @param {number} high
 * @returns {(number | null)[]} the middles; `null`: no room (the last in the list go first)
 */
export function apart(places, height, low, high) {
  const room = Math.max(Math.floor((high - low) / height), 0);
  const kept = places.map((place, index) => ({ place, index })).slice(0, room);
  kept.sort((a, b) => a.place - b.place || a.index - b.index);
  let least = low + height / 2;
  for (const label of kept) {
    label.place = Math.max(label.place, least);
    least = label.place + height;
  }
  let most = high - height / 2;
  for (const label of kept.reverse()) {
    label.place = Math.min(label.place, most);
    most = label.place - height;
  }
  /** @type {(number | null)[]} */
  const result = places.map(() => null);
  for (const label of kept) result[label.index] = label.place;
  return result;
}
