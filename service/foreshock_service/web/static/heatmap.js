// @ts-check
/** The layer by step map, and over it the crosshair and the places where incidents began. */
import { paint } from "./pool.js";
import { rule, Sheet, veil } from "./sheet.js";
import { incidentOrds, rowOf, scaleX } from "./state.js";

/** @typedef {import("./state.js").State} State */

export class Heatmap {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.cells = new Sheet(host);
    this.marks = new Sheet(host);
    /** @type {ImageData | null} */
    this.image = null;
  }

  /** Cells and row labels. @param {State} state */
  draw(state) {
    const context = this.cells.begin();
    const { ratio, width, height } = this.cells;
    const left = Math.round(state.gutter * ratio);
    const wide = this.cells.canvas.width - left;
    const high = this.cells.canvas.height;
    if (wide < 2 || high < 2 || state.rows.length === 0) return;
    if (this.image?.width !== wide || this.image?.height !== high) this.image = new ImageData(wide, high);
    const pixels = new Uint32Array(this.image.data.buffer);
    pixels.fill(state.table[0] ?? 0);
    for (const grid of [state.whole, state.near]) {
      if (grid) paint(pixels, wide, high, grid, state.view, state.table);
    }
    context.putImageData(this.image, left, 0);
    this.#labels(context, state, height);
    context.strokeStyle = state.colours.rule;
    context.lineWidth = 1;
    context.strokeRect(state.gutter + 0.5, 0.5, width - state.gutter - 1, height - 1);
  }

  /**
   * Blocks where rows are thin, names where they are tall enough to read.
   * @param {CanvasRenderingContext2D} context @param {State} state @param {number} height
   */
  #labels(context, state, height) {
    const { view, rows, colours, gutter } = state;
    const pitch = height / (view.y1 - view.y0);
    context.font = `11px ${colours.font}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    let lowest = -Infinity;
    let group = "";
    for (let row = Math.max(0, Math.floor(view.y0)); row < Math.min(view.y1, rows.length); row++) {
      const name = rows[row]?.name ?? "";
      const block = name.match(/^(.*?\D)(\d+)\./);
      const begins = block ? block[0] !== group : true;
      group = block ? block[0] : "";
      const y = (row - view.y0 + (pitch >= 12 ? 0.5 : 0)) * pitch;
      const spaced = y - lowest >= (pitch >= 12 ? 12 : 22) && y >= 0 && y <= height - 4;
      if (!spaced || (pitch < 12 && !(begins && block))) continue;
      context.fillStyle = row === state.pin?.row ? colours.link : colours.soft;
      const text = pitch >= 12 ? fit(context, name, gutter - 14) : block ? blockLabel(block, lowest < 0) : "";
      context.fillText(text, gutter - 8, Math.max(6, y));
      rule(context, colours.rule, gutter - 5, y, gutter - 1, y);
      lowest = y;
    }
  }

  /** Crosshair, pin, onsets. A sheet of its own, so that hovering repaints no cell. @param {State} state */
  drawMarks(state) {
    const context = this.marks.begin();
    const { width, height } = this.marks;
    const { view, colours, gutter } = state;
    const x = scaleX(state, width);
    const y = (/** @type {number} */ row) => ((row - view.y0) / (view.y1 - view.y0)) * height;
    context.save();
    context.beginPath();
    context.rect(gutter, 0, width - gutter, height);
    context.clip();
    if (state.pin) {
      rule(context, colours.link, x(state.pin.ord + 0.5), 0, x(state.pin.ord + 0.5), height);
      rule(context, colours.link, gutter, y(state.pin.row + 0.5), width, y(state.pin.row + 0.5));
    }
    if (state.hover) {
      const shade = veil(colours.text, 0.45);
      rule(context, shade, x(state.hover.ord + 0.5), 0, x(state.hover.ord + 0.5), height);
      if (state.hover.row >= 0) {
        rule(context, shade, gutter, y(state.hover.row + 0.5), width, y(state.hover.row + 0.5));
      }
    }
    for (const incident of state.incidents) this.#onset(context, state, incident, x, y);
    context.restore();
  }

  /**
   * A ring on the first series to leave; the chosen incident also has its lines and a name.
   * @param {CanvasRenderingContext2D} context @param {State} state
   * @param {import("./state.js").Incident} incident
   * @param {(ord: number) => number} x @param {(row: number) => number} y
   */
  #onset(context, state, incident, x, y) {
    const { colours } = state;
    const { height } = this.marks;
    const tone = incident.severity === "critical" ? colours.critical : colours.warning;
    const chosen = incident.number === state.incident;
    const { onset, loss } = incidentOrds(state, incident);
    const at = x(onset);
    if (chosen) {
      rule(context, tone, at, 0, at, height);
      if (loss !== null) rule(context, tone, x(loss), 0, x(loss), height, [4, 3]);
    }
    const row = rowOf(state, incident.root);
    if (row < 0) return;
    const middle = y(row + 0.5);
    for (const [thickness, colour] of /** @type {[number, string][]} */ ([[4, colours.surface], [2, tone]])) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.beginPath();
      context.arc(at, middle, 5.5, 0, 2 * Math.PI);
      context.stroke();
    }
    if (chosen) this.#name(context, state, `first: ${state.rows[row]?.name ?? ""}`, at, middle, tone);
  }

  /**
   * A chip beside the ring, on the side that has room.
   * @param {CanvasRenderingContext2D} context @param {State} state @param {string} text
   * @param {number} x @param {number} y @param {string} tone
   */
  #name(context, state, text, x, y, tone) {
    const { colours, gutter } = state;
    context.font = `600 11px ${colours.font}`;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const wide = context.measureText(text).width + 12;
    const beside = x - 12 - wide > gutter ? x - 12 - wide : x + 12;
    const left = Math.max(gutter + 2, Math.min(this.marks.width - wide - 2, beside));
    const middle = Math.max(11, Math.min(this.marks.height - 11, y));
    context.fillStyle = colours.surface;
    context.strokeStyle = tone;
    context.lineWidth = 1;
    context.beginPath();
    context.roundRect(Math.round(left) + 0.5, Math.round(middle) - 9.5, Math.round(wide), 19, 4);
    context.fill();
    context.stroke();
    context.fillStyle = colours.text;
    context.fillText(text, left + 6, middle + 0.5);
  }
}

/** `block 0` first, then bare numbers. @param {RegExpMatchArray} block @param {boolean} first */
function blockLabel(block, first) {
  const word = (block[1] ?? "").split(".").filter(Boolean).at(-1) ?? "";
  return first ? `${word.replace(/s$/, "")} ${block[2]}` : block[2] ?? "";
}

/**
 * Cut a name from the left, where names of one model are alike.
 * @param {CanvasRenderingContext2D} context @param {string} text @param {number} room
 */
export function fit(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let cut = text;
  while (cut.length > 1 && context.measureText(`…${cut}`).width > room) cut = cut.slice(1);
  return `…${cut}`;
}
