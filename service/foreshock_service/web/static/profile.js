// @ts-check
/** Deviation by depth at one step, on the same rows as the heatmap. */
import { decadesOf, exponentOf, INF, MISSING } from "./codes.js";
import { deviationShare, FULL_DECADES } from "./palette.js";
import { rule, Sheet, veil } from "./sheet.js";
import { codeAt, focus } from "./state.js";

/** @typedef {import("./state.js").State} State */

export class Profile {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.sheet = new Sheet(host);
  }

  /** @param {State} state @param {[number, number]} shown exponents at the ends in absolute mode */
  draw(state, shown) {
    const context = this.sheet.begin();
    const { width } = this.sheet;
    const height = this.sheet.height - 24;
    const { colours, view, coding } = state;
    const deviation = coding.mode === "deviation";
    const [low, high] = deviation ? [-FULL_DECADES, FULL_DECADES] : shown;
    const x = (/** @type {number} */ value) =>
      4 + Math.max(0, Math.min(1, (value - low) / (high - low))) * (width - 8);
    const zero = x(deviation ? 0 : low);
    if (deviation) {
      context.fillStyle = colours.band;
      context.fillRect(x(-Math.log10(2)), 0, x(Math.log10(2)) - x(-Math.log10(2)), height);
    }
    this.#axis(context, state, x, height, deviation ? [-2, 0, 2] : [low, high], deviation);
    const cell = focus(state);
    if (!cell) return;
    const pitch = height / (view.y1 - view.y0);
    const first = Math.max(0, Math.floor(view.y0));
    for (let row = first; row < Math.min(view.y1, state.rows.length); row++) {
      const code = codeAt(state, { ord: cell.ord, row });
      if (code === MISSING) continue;
      const y = (row - view.y0) * pitch;
      const thick = Math.max(1, pitch - (pitch > 4 ? 1 : 0));
      if (code >= INF) {
        context.fillStyle = colours.nonfinite;
        context.fillRect(zero, y, width - zero, thick);
        continue;
      }
      const value = deviation ? decadesOf(code, coding.scale) : exponentOf(code, coding.low, coding.high);
      const to = x(value);
      context.fillStyle = deviation ? tone(state, value) : colours.soft;
      context.fillRect(Math.min(zero, to), y, Math.max(1, Math.abs(to - zero)), thick);
    }
    if (state.pin) {
      const y = (state.pin.row + 0.5 - view.y0) * pitch;
      if (y >= 0 && y <= height) rule(context, colours.link, 0, y, width, y);
    }
    if (state.hover && state.hover.row >= 0) {
      const y = (state.hover.row + 0.5 - view.y0) * pitch;
      rule(context, veil(colours.text, 0.45), 0, y, width, y);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context @param {State} state @param {(value: number) => number} x
   * @param {number} height @param {number[]} at @param {boolean} deviation
   */
  #axis(context, state, x, height, at, deviation) {
    context.font = `11px ${state.colours.font}`;
    context.textBaseline = "middle";
    for (const value of at) {
      rule(context, state.colours.faint, x(value), 0, x(value), height);
      const text = !deviation ? `1e${value}` : value === 0 ? "baseline" : value < 0 ? "1/100" : "100×";
      const half = context.measureText(text).width / 2;
      context.textAlign = "center";
      context.fillStyle = state.colours.soft;
      context.fillText(text, Math.max(half, Math.min(this.sheet.width - half, x(value))), height + 12);
    }
  }
}

/** The heatmap's own colours, but grey where calm: a bar must be seen. @param {State} state @param {number} decades */
function tone(state, decades) {
  const share = deviationShare(decades);
  const { colours } = state;
  if (share <= 0) return colours.soft;
  if (decades < 0) return share > 0.6 ? colours["below-3"] : colours["below-2"];
  return share > 0.6 ? colours["above-3"] : colours["above-2"];
}
