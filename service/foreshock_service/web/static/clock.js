// @ts-check
/**
 * The two counts of time: `ord` numbers frames as they came and never goes back, `step` is the
 * trainer's and repeats when a run resumes. Axes run over ords and are labelled in steps. No DOM.
 */
import { roundUp } from "./numbers.js";

/** @typedef {{ord: number, step: number}} Restart where a new attempt begins, and the step it resumes at */

/**
 * Where another attempt begins, as exactly as the columns tell.
 * @param {Clock} clock @param {ArrayLike<number>} attempts that of each column's first frame
 * @returns {Restart[]}
 */
export function restartsOf(clock, attempts) {
  /** @type {Restart[]} */
  const found = [];
  for (let column = 1; column < attempts.length; column++) {
    if (attempts[column] === attempts[column - 1]) continue;
    found.push({ ord: clock.ords[column] ?? 0, step: clock.steps[column] ?? 0 });
  }
  return found;
}

export class Clock {
  /**
   * One entry a column: its first ord and its step; `end` is one past the last ord.
   * @param {ArrayLike<number>} ords @param {ArrayLike<number>} steps @param {number} end
   */
  constructor(ords, steps, end) {
    this.ords = ords;
    this.steps = steps;
    this.end = end;
  }

  /** The column that holds an ord. @param {number} ord */
  column(ord) {
    let low = 0;
    let high = this.ords.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.ords[middle] ?? 0) <= ord) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The step of an ord, interpolated inside a column. @param {number} ord */
  stepAt(ord) {
    if (this.ords.length === 0) return 0;
    const column = this.column(ord);
    const step = this.steps[column] ?? 0;
    const first = this.ords[column] ?? 0;
    const last = column + 1 < this.ords.length ? this.ords[column + 1] ?? this.end : this.end;
    const next = column + 1 < this.steps.length ? this.steps[column + 1] ?? step : step + last - first;
    if (next < step || last <= first) return step;
    return Math.floor(step + ((next - step) * Math.max(0, Math.min(ord, last) - first)) / (last - first));
  }

  /**
   * The last ord up to `before` that had this step: a resumed run passes the same step again.
   * @param {number} step @param {number} [before]
   */
  ordOf(step, before = Infinity) {
    for (let column = this.ords.length - 1; column >= 0; column--) {
      const first = this.ords[column] ?? 0;
      const here = this.steps[column] ?? 0;
      if (first > before || here > step) continue;
      const last = this.ords[column + 1] ?? this.end;
      const next = this.steps[column + 1] ?? here + last - first;
      if (next <= here) return first;
      return Math.min(last - 1, Math.round(first + ((step - here) * (last - first)) / (next - here)));
    }
    return 0;
  }

  /**
   * Round steps inside a window, at least `gap` of the window's width apart.
   * @param {number} x0 @param {number} x1 @param {number} gap share of the window
   * @returns {{ord: number, step: number}[]}
   */
  ticks(x0, x1, gap) {
    const from = this.stepAt(x0);
    const to = this.stepAt(x1);
    const stride = Math.max(1, roundUp(Math.max(Math.abs(to - from), 1) * gap));
    /** @type {{ord: number, step: number}[]} */
    const ticks = [];
    let at = -Infinity;
    for (
      let step = Math.ceil(Math.min(from, to) / stride) * stride;
      step <= Math.max(from, to);
      step += stride
    ) {
      const ord = this.ordOf(step, x1);
      if (ord < x0 || ord > x1 || ord - at < (x1 - x0) * gap * 0.6) continue;
      ticks.push({ ord, step });
      at = ord;
    }
    return ticks;
  }
}
