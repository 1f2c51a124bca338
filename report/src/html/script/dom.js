// Making elements. Words go in as text only, so that nothing in a trace can be markup.

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null>} [attributes] `true`: there, `false` and `null`: not there
 * @param {...(Node | string | null)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svgEl(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/**
 * @param {Element} element
 * @param {Record<string, string | number | boolean | null>} attributes
 */
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * A button with words on it.
 * @param {string} text
 * @param {string} className
 * @param {() => void} act
 * @returns {HTMLButtonElement}
 */
export function button(text, className, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

/**
 * Changes a text only when it differs: an unchanged one costs no layout.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * A canvas, and how large it is on the page.
 * @param {string} className
 * @returns {HTMLCanvasElement}
 */
export function canvas(className) {
  const made = document.createElement("canvas");
  made.className = className;
  made.setAttribute("aria-hidden", "true");
  return made;
}

/**
 * Sizes a canvas for the screen's pixels and gives its context, whose unit is a CSS pixel. Everything on it is gone.
 * @param {HTMLCanvasElement} surface
 * @param {number} width CSS pixels
 * @param {number} height CSS pixels
 * @param {number} density pixels of the screen in a CSS pixel
 */
export function sized(surface, width, height, density) {
  const [wide, high] = [Math.max(Math.round(width * density), 1), Math.max(Math.round(height * density), 1)];
  if (surface.width !== wide) surface.width = wide;
  if (surface.height !== high) surface.height = high;
  surface.style.height = `${height}px`;
  const context = surface.getContext("2d");
  if (context !== null) {
    context.setTransform(wide / width, 0, 0, high / height, 0, 0);
    context.clearRect(0, 0, width, height);
  }
  return context;
}

/**
 * Gives a group of buttons one stop of the Tab key; arrows go from one to the next.
 * @param {HTMLElement} group
 * @param {string} selector of the buttons
 */
export function roving(group, selector) {
  const buttons = () => /** @type {HTMLElement[]} */ ([...group.querySelectorAll(selector)]);
  const settle = (/** @type {HTMLElement | undefined} */ chosen) => {
    for (const one of buttons()) one.tabIndex = one === chosen ? 0 : -1;
  };
  settle(buttons()[0]);
  group.addEventListener("focusin", (event) => {
    const at = buttons().find((one) => one === event.target);
    if (at !== undefined) settle(at);
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = buttons();
    const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
    const next = step === undefined || at < 0 ? undefined : all[at + step];
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  });
}
