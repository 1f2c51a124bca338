// What the page does beside showing: the choice of light or dark.

/** @typedef {"light" | "dark"} Theme */

/** @returns {Theme} what is shown now */
function shown() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

const button = document.getElementById("theme");
if (button !== null) {
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = shown() === "dark" ? "light" : "dark";
  });
}
