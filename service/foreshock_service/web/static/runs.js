// @ts-check
/** The Runs page: filters its rows, and fetches them anew while somebody looks. */
import { inTurn } from "./turns.js";

const REFRESH_MILLISECONDS = 5000;
const filter = /** @type {HTMLInputElement | null} */ (document.getElementById("filter"));

/** Hide what the filter does not name; a group without rows goes with them. */
function apply() {
  const words = (filter?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  for (const group of document.querySelectorAll("tbody")) {
    let shown = 0;
    for (const row of /** @type {NodeListOf<HTMLElement>} */ (group.querySelectorAll("tr[data-words]"))) {
      const text = row.dataset.words ?? "";
      row.hidden = !words.every((word) => text.includes(word));
      shown += Number(!row.hidden);
    }
    group.hidden = shown === 0;
  }
  const none = document.getElementById("none");
  if (none) none.hidden = document.querySelector("tbody:not([hidden])") !== null;
}

/** Swap in the server's own rows: they are worded and drawn in one place only. */
async function refresh() {
  if (document.hidden) return;
  const response = await fetch(location.pathname).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["headline", "board"]) {
    const [before, after] = [document.getElementById(id), fresh.getElementById(id)];
    if (before && after && !before.contains(document.activeElement)) {
      before.replaceWith(document.adoptNode(after));
    }
  }
  apply();
}

// A slow answer must not be overtaken by the next: its rows would be older than those shown.
const refreshInTurn = inTurn(refresh, () => Promise.resolve());
filter?.addEventListener("input", apply);
document.addEventListener("visibilitychange", refreshInTurn);
setInterval(refreshInTurn, REFRESH_MILLISECONDS);
apply();
document.documentElement.dataset.ready = "";
