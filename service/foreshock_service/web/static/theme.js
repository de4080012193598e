// @ts-check
/** Light or dark: what was chosen last, else what the system says. Loaded before the first paint. */

const KEY = "foreshock-theme";
const root = document.documentElement;

/** @returns {"light" | "dark"} the theme that is showing */
export function current() {
  const chosen = root.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Switch themes and tell the page, whose canvases hold colours of the old one. */
export function toggle() {
  const next = current() === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  remember(next);
  document.dispatchEvent(new CustomEvent("themechange"));
}

/** @param {string} theme */
function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Storage can be forbidden; the choice then lasts for this page.
  }
}

/** @returns {string | null} */
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

root.dataset.theme = remembered() ?? "auto";
root.dataset.scripted = "";
document.getElementById("theme")?.addEventListener("click", toggle);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.dispatchEvent(new CustomEvent("themechange"));
});
