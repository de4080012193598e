// @ts-check
/** Lines over steps: loss, gradient norm, one series inside its baseline. Means inside their extremes. */
import { linearTicks, logTicks } from "./numbers.js";
import { rule, Sheet, veil } from "./sheet.js";
import { chosenIncident, focus, incidentOrds, scaleX } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Track} Track */
/** @typedef {{from: number, to: number, log: boolean, place: (value: number) => number}} Scale */

export class LineTrack {
  /**
   * @param {HTMLElement} host @param {"text" | "link"} tone
   * @param {(state: State) => (Track | null)[]} read tracks from coarse to sharp
   */
  constructor(host, tone, read) {
    this.lines = new Sheet(host);
    this.marks = new Sheet(host);
    this.tone = tone;
    this.read = read;
    /** @type {Scale | null} */
    this.scale = null;
  }

  /** @param {State} state */
  draw(state) {
    const context = this.lines.begin();
    const { width, height } = this.lines;
    const { gutter } = state;
    const track = sharpest(this.read(state), state);
    this.scale = track && scaleOf(track, state, height);
    const x = scaleX(state, width);
    if (this.scale) this.#ticks(context, state, this.scale);
    context.save();
    context.beginPath();
    context.rect(gutter, 0, width - gutter, height);
    context.clip();
    drawSpans(context, state, x, height);
    if (track && this.scale) {
      this.#baseline(context, state, track, x);
      this.#line(context, state, track, x);
    }
    if (track) drawBroken(context, state, track, x);
    context.restore();
  }

  /** @param {CanvasRenderingContext2D} context @param {State} state @param {Scale} scale */
  #ticks(context, state, scale) {
    const { width, height } = this.lines;
    const room = Math.max(2, height / 24);
    const ticks = scale.log ? logTicks(scale.from, scale.to, room) : linearTicks(scale.from, scale.to, room);
    context.font = `11px ${state.colours.font}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    let last = Infinity;
    for (const { at, text } of ticks) {
      const y = scale.place(scale.log ? 10 ** at : at);
      if (last - y < 15 || y < 6 || y > height - 5) continue;
      rule(context, state.colours.faint, state.gutter, y, width, y);
      context.fillStyle = state.colours.soft;
      context.fillText(text, state.gutter - 8, y);
      last = y;
    }
  }

  /** The series' own normal: a band of a factor of two about its baseline. */
  #baseline(
    /** @type {CanvasRenderingContext2D} */ context,
    /** @type {State} */ state,
    /** @type {Track} */ track,
    /** @type {(ord: number) => number} */ x,
  ) {
    const place = this.scale?.place;
    if (!track.baseline || !place) return;
    context.fillStyle = state.colours.band;
    for (let column = 0; column < track.ords.length; column++) {
      const normal = track.baseline[column] ?? NaN;
      if (!(normal > 0)) continue;
      const left = x(track.ords[column] ?? 0);
      const right = x(track.ords[column + 1] ?? track.end);
      const top = place(normal * 2);
      context.fillRect(left, top, right - left + 0.5, place(normal / 2) - top);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {State} state @param {Track} track @param {(ord: number) => number} x */
  #line(context, state, track, x) {
    const place = this.scale?.place;
    if (!place) return;
    const colour = state.colours[this.tone];
    for (const [from, to] of pieces(track)) {
      const middle = (/** @type {number} */ k) =>
        x(((track.ords[k] ?? 0) + (track.ords[k + 1] ?? track.end)) / 2);
      context.fillStyle = veil(colour, 0.18);
      context.beginPath();
      for (let k = from; k < to; k++) context.lineTo(middle(k), place(track.high[k] ?? NaN));
      for (let k = to - 1; k >= from; k--) context.lineTo(middle(k), place(track.low[k] ?? NaN));
      context.fill();
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = 1.3;
      context.lineJoin = "round";
      context.beginPath();
      for (let k = from; k < to; k++) context.lineTo(middle(k), place(track.mean[k] ?? NaN));
      context.stroke();
      if (to - from === 1) context.fillRect(middle(from) - 1, place(track.mean[from] ?? NaN) - 1, 2, 2);
    }
  }

  /** Crosshair and the point on the line. @param {State} state */
  drawMarks(state) {
    const context = this.marks.begin();
    const { width, height } = this.marks;
    const x = scaleX(state, width);
    context.save();
    context.beginPath();
    context.rect(state.gutter, 0, width - state.gutter, height);
    context.clip();
    if (state.pin) {
      rule(context, state.colours.link, x(state.pin.ord + 0.5), 0, x(state.pin.ord + 0.5), height);
    }
    if (state.hover) {
      rule(
        context,
        veil(state.colours.text, 0.45),
        x(state.hover.ord + 0.5),
        0,
        x(state.hover.ord + 0.5),
        height,
      );
    }
    const cell = focus(state);
    const value = cell ? valueAt(this.read(state), cell.ord) : null;
    if (cell && value !== null && this.scale && Number.isFinite(this.scale.place(value))) {
      for (
        const [radius, colour]
          of /** @type {[number, string][]} */ ([[4.5, state.colours.surface], [3, state.colours[this.tone]]])
      ) {
        context.fillStyle = colour;
        context.beginPath();
        context.arc(x(cell.ord + 0.5), this.scale.place(value), radius, 0, 2 * Math.PI);
        context.fill();
      }
    }
    context.restore();
  }
}

/** The sharpest track that covers the window. @param {(Track | null)[]} tracks @param {State} state */
function sharpest(tracks, state) {
  return tracks.findLast((track) => track && covers(track, state.view.x0, state.view.x1)) ?? tracks[0] ??
    null;
}

/** @param {Track} track @param {number} from @param {number} to */
function covers(track, from, to) {
  return (track.ords[0] ?? Infinity) <= from + 1 && track.end >= to - 1;
}

/**
 * The value at an ord from the sharpest track that has it; NaN or Inf where the column held one.
 * @param {(Track | null)[]} tracks @param {number} ord @returns {number | null}
 */
export function valueAt(tracks, ord) {
  for (const track of tracks.toReversed()) {
    const column = track ? columnAt(track, ord) : -1;
    if (!track || column < 0) continue;
    const mean = track.mean[column] ?? NaN;
    if (Number.isFinite(mean)) return mean;
    if (track.broken[column]) return track.high[column] === Infinity ? Infinity : NaN;
  }
  return null;
}

/** The column that holds an ord, -1 where the track has none. @param {Track} track @param {number} ord */
export function columnAt(track, ord) {
  if (ord >= track.end || ord < (track.ords[0] ?? Infinity)) return -1;
  let column = track.ords.findLastIndex((first) => first <= ord);
  if (column < 0) column = 0;
  return column;
}

/** Runs of columns with a finite mean. @param {Track} track */
function* pieces(track) {
  let from = -1;
  for (let k = 0; k <= track.ords.length; k++) {
    const finite = k < track.ords.length && Number.isFinite(track.mean[k]);
    if (finite && from < 0) from = k;
    if (!finite && from >= 0) {
      yield /** @type {[number, number]} */ ([from, k]);
      from = -1;
    }
  }
}

/**
 * Logarithmic where every value is positive, else linear; nothing is cut off.
 * @param {Track} track @param {State} state @param {number} height @returns {Scale | null}
 */
function scaleOf(track, state, height) {
  let low = Infinity;
  let high = -Infinity;
  for (let k = 0; k < track.ords.length; k++) {
    const first = track.ords[k] ?? 0;
    if (first > state.view.x1 || (track.ords[k + 1] ?? track.end) < state.view.x0) continue;
    for (const value of [track.low[k] ?? NaN, track.high[k] ?? NaN, track.mean[k] ?? NaN]) {
      if (!Number.isFinite(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) return null;
  const log = low > 0;
  const [bottom, top] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const margin = Math.max((top - bottom) * 0.1, log ? 0.03 : Math.abs(top) * 0.01 || 0.5);
  const from = bottom - margin;
  const to = top + margin;
  return {
    from,
    to,
    log,
    place: (value) => height - 5 - (((log ? Math.log10(value) : value) - from) / (to - from)) * (height - 12),
  };
}

/** NaN and Inf leave a bar at the top: the line cannot go there. */
function drawBroken(
  /** @type {CanvasRenderingContext2D} */ context,
  /** @type {State} */ state,
  /** @type {Track} */ track,
  /** @type {(ord: number) => number} */ x,
) {
  context.fillStyle = state.colours.nonfinite;
  for (let k = 0; k < track.ords.length; k++) {
    if (!track.broken[k]) continue;
    const left = x(track.ords[k] ?? 0);
    context.fillRect(left, 0, Math.max(2, x(track.ords[k + 1] ?? track.end) - left), 5);
  }
}

/** The time of each incident as a tint, its onset as a line, the loss's answer as a dashed one. */
function drawSpans(
  /** @type {CanvasRenderingContext2D} */ context,
  /** @type {State} */ state,
  /** @type {(ord: number) => number} */ x,
  /** @type {number} */ height,
) {
  const chosen = chosenIncident(state);
  for (const incident of state.incidents) {
    const tone = incident.severity === "critical" ? state.colours.critical : state.colours.warning;
    const { onset, loss, end } = incidentOrds(state, incident);
    const strong = incident === chosen;
    const until = end ?? (strong ? state.frames : onset);
    context.fillStyle = veil(tone, strong ? 0.09 : 0.06);
    context.fillRect(x(onset), 0, x(until) - x(onset), height);
    rule(context, veil(tone, strong ? 1 : 0.5), x(onset), 0, x(onset), height);
    if (loss !== null) rule(context, veil(tone, strong ? 1 : 0.5), x(loss), 0, x(loss), height, [4, 3]);
  }
}
