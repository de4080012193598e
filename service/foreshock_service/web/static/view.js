// @ts-check
/** The window on a run, how it moves, and how the address bar holds it. No DOM here. */

/** @typedef {import("./pool.js").View} View */
/** @typedef {{ord: number, row: number}} Cell */

/** The narrowest window, in frames and in rows: closer there is nothing more to see. */
const LEAST_FRAMES = 8;
const LEAST_ROWS = 4;

/**
 * Keep a window inside the run without changing its size where it fits.
 * @param {View} view @param {number} frames @param {number} rows @returns {View}
 */
export function clamp(view, frames, rows) {
  const [x0, x1] = inside(view.x0, view.x1, frames, LEAST_FRAMES);
  const [y0, y1] = inside(view.y0, view.y1, rows, LEAST_ROWS);
  return { x0, x1, y0, y1 };
}

/**
 * @param {number} low @param {number} high @param {number} count @param {number} least
 * @returns {[number, number]}
 */
function inside(low, high, count, least) {
  const size = Math.min(Math.max(high - low, Math.min(least, count)), Math.max(count, 1));
  const start = Math.max(0, Math.min(low, count - size));
  return [start, start + size];
}

/**
 * Zoom around a point that stays where it is.
 * @param {View} view @param {number} factor below 1 zooms in @param {Cell} at
 * @param {{x: boolean, y: boolean}} axes @returns {View}
 */
export function zoom(view, factor, at, axes) {
  const moved = { ...view };
  if (axes.x) {
    moved.x0 = at.ord - (at.ord - view.x0) * factor;
    moved.x1 = at.ord + (view.x1 - at.ord) * factor;
  }
  if (axes.y) {
    moved.y0 = at.row - (at.row - view.y0) * factor;
    moved.y1 = at.row + (view.y1 - at.row) * factor;
  }
  return moved;
}

/** @param {View} view @param {number} frames @param {number} rows @returns {View} */
export function pan(view, frames, rows) {
  return { x0: view.x0 + frames, x1: view.x1 + frames, y0: view.y0 + rows, y1: view.y1 + rows };
}

/**
 * @typedef {object} Shared what an address holds; null: the page's own choice
 * @property {View | null} view
 * @property {Cell | null} cell
 * @property {number | null} incident
 * @property {string | null} kind
 * @property {string | null} statistic
 * @property {"absolute" | "deviation" | null} mode
 */

/** Read an address; whatever is not well formed is ignored. @param {string} search @returns {Shared} */
export function readAddress(search) {
  const query = new URLSearchParams(search);
  const view = numbers(query.get("view"), 4);
  const cell = numbers(query.get("cell"), 2);
  const incident = numbers(query.get("incident"), 1);
  const mode = query.get("mode");
  return {
    view: view && { x0: view[0] ?? 0, x1: view[1] ?? 0, y0: view[2] ?? 0, y1: view[3] ?? 0 },
    cell: cell && { ord: cell[0] ?? 0, row: cell[1] ?? 0 },
    incident: incident && (incident[0] ?? null),
    kind: query.get("kind"),
    statistic: query.get("statistic"),
    mode: mode === "absolute" || mode === "deviation" ? mode : null,
  };
}

/** @param {string | null} text @param {number} count @returns {number[] | null} */
function numbers(text, count) {
  const parts = (text ?? "").split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  return parts.length === count && parts.every(Number.isFinite) ? parts : null;
}

/** Write an address that shows somebody else the same. @param {Shared} shared */
export function writeAddress(shared) {
  const query = new URLSearchParams();
  const { view, cell } = shared;
  if (shared.incident !== null) query.set("incident", String(shared.incident));
  if (shared.kind !== null) query.set("kind", shared.kind);
  if (shared.statistic !== null) query.set("statistic", shared.statistic);
  if (shared.mode !== null) query.set("mode", shared.mode);
  if (view) query.set("view", [view.x0, view.x1, view.y0, view.y1].map((n) => n.toFixed(1)).join(","));
  if (cell) query.set("cell", `${Math.round(cell.ord)},${Math.round(cell.row)}`);
  return query.size ? `?${query}`.replaceAll("%2C", ",") : "";
}
