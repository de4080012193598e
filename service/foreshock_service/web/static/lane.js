// @ts-check
/** Above the plots: the whole run with the window on it, and the lane of incidents and events. */
import { rule, Sheet, veil } from "./sheet.js";
import { whole } from "./numbers.js";
import { incidentOrds, scaleX } from "./state.js";
import { laneWords, leadOf } from "./words.js";

/** @typedef {import("./state.js").State} State */

export class Brush {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.sheet = new Sheet(host);
  }

  /** @param {State} state */
  draw(state) {
    const context = this.sheet.begin();
    const { width, height } = this.sheet;
    const { colours, gutter, view } = state;
    const x = (/** @type {number} */ ord) => gutter + (ord / Math.max(1, state.frames)) * (width - gutter);
    context.fillStyle = colours.surface;
    context.fillRect(gutter, 0, width - gutter, height);
    this.#loss(context, state, x);
    for (const incident of state.incidents) {
      const tone = incident.severity === "critical" ? colours.critical : colours.warning;
      const at = x(incidentOrds(state, incident).onset);
      rule(context, veil(tone, incident.number === state.incident ? 1 : 0.6), at, 0, at, height, [], 2);
    }
    const left = x(view.x0);
    const right = Math.max(left + 3, x(view.x1));
    context.fillStyle = veil(colours.page, 0.62);
    context.fillRect(gutter, 0, left - gutter, height);
    context.fillRect(right, 0, width - right, height);
    context.strokeStyle = colours.link;
    context.lineWidth = 1.5;
    context.strokeRect(left + 0.75, 0.75, right - left - 1.5, height - 1.5);
    context.fillStyle = colours.link;
    context.fillRect(left - 1, height / 2 - 5, 3, 10);
    context.fillRect(right - 2, height / 2 - 5, 3, 10);
  }

  /** @param {CanvasRenderingContext2D} context @param {State} state @param {(ord: number) => number} x */
  #loss(context, state, x) {
    const track = state.scalars.loss?.whole;
    if (!track) return;
    const logs = Array.from(
      track.mean,
      (value) => (value > 0 && Number.isFinite(value) ? Math.log(value) : NaN),
    );
    const finite = logs.filter(Number.isFinite);
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    context.strokeStyle = state.colours.soft;
    context.lineWidth = 1;
    context.beginPath();
    let drawing = false;
    logs.forEach((value, column) => {
      if (!Number.isFinite(value)) {
        drawing = false;
        return;
      }
      const y = this.sheet.height - 5 - ((value - low) / (high - low || 1)) * (this.sheet.height - 10);
      if (drawing) context.lineTo(x(track.ords[column] ?? 0), y);
      else context.moveTo(x(track.ords[column] ?? 0), y);
      drawing = true;
    });
    context.stroke();
  }
}

export class Lane {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.sheet = new Sheet(host);
    /** @type {{left: number, right: number, incident: number}[]} */
    this.flags = [];
  }

  /** The incident whose flag is at this pixel. @param {number} x */
  incidentAt(x) {
    return this.flags.findLast((flag) => x >= flag.left && x <= flag.right)?.incident ?? null;
  }

  /** @param {State} state */
  draw(state) {
    const context = this.sheet.begin();
    const { width, height } = this.sheet;
    const { colours, gutter } = state;
    const x = scaleX(state, width);
    this.flags = [];
    rule(context, colours.rule, gutter, height - 1, width, height - 1);
    context.textBaseline = "middle";
    for (const event of state.events) this.#event(context, state, event, x);
    for (const { ord } of state.restarts) this.#labelled(context, state, x(ord), "restart", [2, 2]);
    this.sheet.host.setAttribute("aria-label", laneWords(state));
    const ordered = state.incidents.toSorted((a) => (a.number === state.incident ? 1 : -1));
    for (const incident of ordered) this.#flag(context, state, incident, x);
  }

  /** @param {CanvasRenderingContext2D} context @param {State} state @param {import("./state.js").RunEvent} event @param {(ord: number) => number} x */
  #event(context, state, event, x) {
    if (event.step === null) return;
    const at = x(state.clock.ordOf(event.step));
    if (at < state.gutter || at > this.sheet.width) return;
    const bottom = this.sheet.height - 5;
    context.fillStyle = state.colours.soft;
    if (event.kind === "checkpoint") {
      context.beginPath();
      context.moveTo(at, bottom - 4);
      context.lineTo(at + 4, bottom);
      context.lineTo(at, bottom + 4);
      context.lineTo(at - 4, bottom);
      context.fill();
      return;
    }
    this.#labelled(context, state, at, event.label, []);
  }

  /**
   * A mark through the lane's lower half with a word above it; nothing outside the window.
   * @param {CanvasRenderingContext2D} context @param {State} state @param {number} at
   * @param {string} label @param {number[]} dash
   */
  #labelled(context, state, at, label, dash) {
    if (at < state.gutter || at > this.sheet.width) return;
    const bottom = this.sheet.height - 1;
    context.fillStyle = state.colours.soft;
    rule(context, state.colours.soft, at, bottom - 12, at, bottom, dash);
    context.font = `11px ${state.colours.font}`;
    context.textAlign = "center";
    const half = context.measureText(label).width / 2;
    const middle = Math.max(state.gutter + half, Math.min(this.sheet.width - half - 2, at));
    context.fillText(label, middle, 8);
  }

  /**
   * The number of an incident left of its onset, and the lead as a bracket to the loss.
   * @param {CanvasRenderingContext2D} context @param {State} state
   * @param {import("./state.js").Incident} incident @param {(ord: number) => number} x
   */
  #flag(context, state, incident, x) {
    const { colours, gutter } = state;
    const { onset, loss } = incidentOrds(state, incident);
    const at = x(onset);
    const end = loss === null ? at : x(loss);
    if (end < gutter || at > this.sheet.width) return;
    const chosen = incident.number === state.incident;
    const tone = incident.severity === "critical" ? colours.critical : colours.warning;
    const lead = leadOf(incident);
    const text = chosen && lead > 0 ? `#${incident.number}  ${whole(lead)}-step lead` : `#${incident.number}`;
    context.font = `650 11px ${colours.font}`;
    context.textAlign = "left";
    const wide = context.measureText(text).width + 13;
    const left = Math.max(gutter - 30, at - wide);
    const shown = Math.max(at, gutter);
    if (chosen && loss !== null) {
      rule(context, tone, shown, 10, end, 10, [], 2);
      rule(context, tone, end, 5, end, 15, [], 2);
    }
    context.fillStyle = chosen ? tone : colours.surface;
    context.strokeStyle = tone;
    context.lineWidth = 1;
    context.beginPath();
    context.roundRect(Math.round(left) + 0.5, 1.5, Math.round(wide), 17, 4);
    context.fill();
    context.stroke();
    context.fillStyle = chosen ? colours.surface : tone;
    context.fillText(text, left + 7, 10.5);
    rule(context, tone, at, 10, at, this.sheet.height);
    this.flags.push({ left, right: Math.max(left + wide, end), incident: incident.number });
  }
}

/** Steps under the heatmap. */
export class StepAxis {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.sheet = new Sheet(host);
  }

  /** @param {State} state */
  draw(state) {
    const context = this.sheet.begin();
    const { width } = this.sheet;
    const x = scaleX(state, width);
    context.font = `11px ${state.colours.font}`;
    context.textBaseline = "middle";
    context.fillStyle = state.colours.soft;
    context.textAlign = "right";
    context.fillText("step", state.gutter - 8, 12);
    context.textAlign = "center";
    for (
      const { ord, step } of state.clock.ticks(
        state.view.x0,
        state.view.x1,
        90 / Math.max(90, width - state.gutter),
      )
    ) {
      const text = whole(step);
      const half = context.measureText(text).width / 2;
      const at = x(ord);
      rule(context, state.colours.rule, at, 0, at, 4);
      context.fillText(text, Math.max(state.gutter + half - 4, Math.min(width - half, at)), 12);
    }
  }
}
