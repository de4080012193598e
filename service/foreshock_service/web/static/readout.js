// @ts-check
/** The words and numbers beside the plots: the chosen step, the lists, the chosen series, the tip. */
import { decadesOf, exponentOf, INF, MISSING } from "./codes.js";
import { factor, measure, whole } from "./numbers.js";
import { chosenIncident, codeAt, focus, rowOf } from "./state.js";
import { columnAt, valueAt } from "./tracks.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {{row: number, name: string, text: string, tone: string}} Line */

/** Tensors named in a list. */
const LISTED = 5;
/** Off the baseline means by more than a factor of three, as in the verdict. */
const OFF_DECADES = Math.log10(3);

/** @param {string} id */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {string} id @param {string} text */
export function write(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Fill the right-hand side. @param {State} state @param {"first" | "largest"} list
 * @param {(row: number) => void} choose
 */
export function drawReadout(state, list, choose) {
  const cell = focus(state) ?? { ord: Math.max(0, state.frames - 1), row: -1 };
  const step = whole(state.clock.stepAt(cell.ord));
  write("at-step", step);
  write("profile-step", `step ${step}`);
  for (const name of ["loss", "grad_norm"]) {
    const scalar = state.scalars[name];
    const value = scalar ? valueAt([scalar.whole, scalar.near], cell.ord) : null;
    write(`at-${name}`, measure(value));
    write(`label-${name}`, measure(value));
  }
  const off = deviations(state, cell.ord).filter(({ decades }) => !(Math.abs(decades) <= OFF_DECADES));
  write("at-off", state.coding.mode === "deviation" ? whole(off.length) : "–");
  const lines = list === "first" ? firstToGo(state) : largest(state, cell.ord);
  drawList(state, lines, list, choose);
  drawSeries(state, cell.ord);
}

/** @param {State} state @param {number} ord */
function deviations(state, ord) {
  /** @type {{row: number, decades: number}[]} */
  const found = [];
  if (state.coding.mode !== "deviation") return found;
  for (let row = 0; row < state.rows.length; row++) {
    const code = codeAt(state, { ord, row });
    if (code !== MISSING) found.push({ row, decades: decadesOf(code, state.coding.scale) });
  }
  return found;
}

/** @param {State} state @returns {Line[]} */
function firstToGo(state) {
  const incident = chosenIncident(state);
  const departures = incident?.departures ?? [];
  // The foremost is who is named, and need not be the first that left.
  const first = Math.min(...departures.map((departure) => departure.step));
  return departures.slice(0, LISTED).map((departure, place) => ({
    row: rowOf(state, departure.series),
    name: departure.series.replace(/^[a-z_]+:/, ""),
    text: place === 0 ? `step ${whole(departure.step)}` : `+${whole(departure.step - first)}`,
    tone: "",
  }));
}

/** @param {State} state @param {number} ord @returns {Line[]} */
function largest(state, ord) {
  /** @type {{row: number, size: number, text: string, tone: string}[]} */
  let cells;
  if (state.coding.mode === "deviation") {
    cells = deviations(state, ord)
      .filter(({ decades }) => !(Math.abs(decades) <= OFF_DECADES))
      .map(({ row, decades }) => ({
        row,
        size: Number.isNaN(decades) ? Infinity : Math.abs(decades),
        text: factor(decades),
        tone: Number.isFinite(decades) ? (decades < 0 ? "below" : "above") : "nonfinite",
      }));
  } else {
    cells = state.rows.map((_, row) => ({ row, code: codeAt(state, { ord, row }) }))
      .filter(({ code }) => code !== MISSING)
      .map(({ row, code }) => {
        const exponent = exponentOf(code, state.coding.low, state.coding.high);
        const broken = code >= INF;
        return {
          row,
          size: broken ? Infinity : exponent,
          text: broken ? measure(exponent) : measure(10 ** exponent),
          tone: broken ? "nonfinite" : "",
        };
      });
  }
  return cells.sort((a, b) => b.size - a.size || a.row - b.row).slice(0, LISTED)
    .map(({ row, text, tone }) => ({ row, name: state.rows[row]?.name ?? "", text, tone }));
}

/** @param {State} state @param {Line[]} lines @param {"first" | "largest"} list @param {(row: number) => void} choose */
function drawList(state, lines, list, choose) {
  const host = element("tensors");
  while (host.children.length < lines.length) host.append(document.createElement("button"));
  while (host.children.length > lines.length) host.lastElementChild?.remove();
  lines.forEach(({ row, name, text, tone }, place) => {
    const button = /** @type {HTMLButtonElement} */ (host.children[place]);
    const label = document.createElement("span");
    const value = document.createElement("b");
    label.textContent = name;
    value.textContent = text;
    button.replaceChildren(label, value);
    button.title = name;
    button.dataset.tone = tone;
    button.disabled = row < 0;
    button.setAttribute("aria-pressed", String(row >= 0 && row === state.pin?.row));
    button.onclick = () => choose(row);
  });
  const calm = element("calm");
  calm.hidden = lines.length > 0;
  calm.textContent = list === "first"
    ? "No incident is chosen."
    : "Every tensor is within 3× of its baseline.";
}

/** The series at the pin, else at the pointer. @param {State} state @param {number} ord */
function drawSeries(state, ord) {
  const row = state.pin?.row ?? -1;
  write("series-name", state.rows[row]?.name ?? "No layer chosen");
  const value = state.line ? valueAt([state.line], ord) : null;
  write("series-value", row < 0 ? "" : measure(value));
  const column = state.line ? columnAt(state.line, ord) : -1;
  const normal = state.line?.baseline?.[column] ?? NaN;
  const known = row >= 0 && value !== null && normal > 0 && value > 0;
  const hint = row < 0 ? "Click a cell, or use the arrow keys." : "";
  write(
    "series-ratio",
    known ? `${factor(Math.log10(/** @type {number} */ (value) / normal))} baseline` : hint,
  );
}

/** What a cell says. @param {State} state @param {import("./view.js").Cell} cell */
export function cellText(state, cell) {
  const code = codeAt(state, cell);
  if (code === MISSING) return "no data";
  if (state.coding.mode === "deviation") return `${factor(decadesOf(code, state.coding.scale))} baseline`;
  const exponent = exponentOf(code, state.coding.low, state.coding.high);
  return code >= INF ? measure(exponent) : measure(10 ** exponent);
}

/** The tip beside the pointer. @param {State} state @param {{x: number, y: number} | null} at */
export function drawTip(state, at) {
  const tip = element("tip");
  const cell = state.hover;
  tip.hidden = !at || !cell || cell.row < 0;
  if (tip.hidden || !at || !cell) return;
  write("tip-name", state.rows[cell.row]?.name ?? "");
  write("tip-step", `step ${whole(state.clock.stepAt(cell.ord))}`);
  write("tip-value", cellText(state, cell));
  const host = /** @type {HTMLElement} */ (tip.parentElement);
  const left = at.x + 14 + tip.offsetWidth > host.clientWidth ? at.x - 14 - tip.offsetWidth : at.x + 14;
  const top = at.y + 14 + tip.offsetHeight > host.clientHeight ? at.y - 14 - tip.offsetHeight : at.y + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, top)}px`;
}
