// @ts-check
/** The only file that knows the addresses and shapes of the API's answers. */
import { Clock } from "./clock.js";
import { decode } from "./codes.js";

/** @typedef {import("./state.js").Track} Track */
/** @typedef {import("./state.js").Grid} Grid */
/** @typedef {import("./state.js").Incident} Incident */
/** @typedef {{from: number, to: number, columns: number}} Window */

/** @param {string} address @param {AbortSignal} [signal] */
async function ask(address, signal) {
  const response = await fetch(address, signal ? { signal } : {});
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? `${address} answered ${response.status}`);
}

/** @param {string} address @param {AbortSignal} [signal] */
async function askBinary(address, signal) {
  return decode(await (await ask(address, signal)).arrayBuffer());
}

/** Statistics that the server computes from those that travel. */
const DERIVED = ["rms", "l2", "abs_max"];

export class RunData {
  /** @param {string} run */
  constructor(run) {
    this.base = `/api/v1/runs/${encodeURIComponent(run)}`;
  }

  /** The run itself: how many frames, what happened, how it is and when it was heard of. */
  async run() {
    const answer = await (await ask(this.base)).json();
    return {
      frames: Number(answer.head?.next_ord ?? 0),
      events: /** @type {Record<string, any>[]} */ (answer.events ?? []).map(toEvent),
      status: String(answer.status),
      heardAt: 1000 * Number(answer.heard_at),
      monitor: toMonitor(answer.monitor),
    };
  }

  /** Every series, in table order, and the statistics that can be asked for. */
  async series() {
    const answer = await (await ask(`${this.base}/series`)).json();
    return {
      series: /** @type {import("./state.js").Series[]} */ (answer.series),
      statistics: answer.series.length ? [...DERIVED, .../** @type {string[]} */ (answer.statistics)] : [],
    };
  }

  /** Incidents in order of onset. */
  async incidents() {
    const answer = await (await ask(`${this.base}/incidents`)).json();
    const list = /** @type {Record<string, any>[]} */ (answer.incidents ?? answer);
    return list.map(toIncident).sort((a, b) => a.onset - b.onset);
  }

  /**
   * The heatmap of one kind and statistic over a window.
   * @param {{kind: string, statistic: string, mode: string}} what @param {Window} window
   * @param {AbortSignal} [signal]
   */
  async heatmap(what, window, signal) {
    const query = new URLSearchParams({ ...what, ...asText(window) });
    const { header, arrays } = await askBinary(`${this.base}/heatmap?${query}`, signal);
    const codes = /** @type {Uint16Array} */ (arrays.codes);
    const columns = arrays.ords?.length ?? 0;
    const ords = Float64Array.from(arrays.ords ?? []);
    const end = Number(header.to ?? window.to);
    // Columns keep their places while a run grows, so the first one may begin before what was asked.
    /** @type {Grid} */
    const grid = {
      codes,
      columns,
      rows: columns ? codes.length / columns : 0,
      from: end - columns * Number(header.width),
      to: end,
    };
    const steps = Float64Array.from(arrays.steps ?? []);
    return {
      grid,
      rows: /** @type {ArrayLike<number>} */ (arrays.series ?? []),
      clock: new Clock(ords, steps, end),
      coding: {
        mode: /** @type {"absolute" | "deviation"} */ (header.mode),
        low: Number(header.lo),
        high: Number(header.hi),
        scale: Number(header.scale),
      },
    };
  }

  /**
   * Named scalars over a window. @param {string[]} names @param {Window} window
   * @param {AbortSignal} [signal]
   */
  async scalars(names, window, signal) {
    const query = new URLSearchParams({ names: names.join(","), ...asText(window) });
    const { header, arrays } = await askBinary(`${this.base}/scalars?${query}`, signal);
    const given = /** @type {string[]} */ (header.names);
    const ords = Float64Array.from(arrays.ords ?? []);
    const end = Number(header.to ?? window.to);
    /** @type {Record<string, Track>} */
    const tracks = {};
    given.forEach((name, place) => {
      const slice = (/** @type {ArrayLike<number> | undefined} */ all) =>
        Float64Array.from(all ?? []).subarray(place * ords.length, (place + 1) * ords.length);
      tracks[name] = toTrack(
        ords,
        end,
        slice(arrays.min),
        slice(arrays.mean),
        slice(arrays.max),
        slice(arrays.nonfinite),
        null,
      );
    });
    const clock = new Clock(ords, Float64Array.from(arrays.steps ?? []), end);
    return { tracks, clock, attempts: arrays.attempts ?? [] };
  }

  /**
   * One series over a window. @param {number} index @param {string} statistic @param {Window} window
   * @param {AbortSignal} [signal]
   */
  async line(index, statistic, window, signal) {
    const query = new URLSearchParams({ statistic, ...asText(window) });
    const { header, arrays } = await askBinary(`${this.base}/series/${index}?${query}`, signal);
    const ords = Float64Array.from(arrays.ords ?? []);
    return toTrack(
      ords,
      Number(header.to ?? window.to),
      arrays.min ?? [],
      arrays.mean ?? [],
      arrays.max ?? [],
      arrays.nonfinite ?? [],
      arrays.baseline ?? null,
    );
  }
}

/** @param {Window} window @returns {Record<string, string>} */
function asText(window) {
  return {
    from: String(Math.max(0, Math.floor(window.from))),
    to: String(Math.ceil(window.to)),
    columns: String(Math.max(1, Math.round(window.columns))),
  };
}

/**
 * @param {Float64Array} ords @param {number} end
 * @param {ArrayLike<number>} low @param {ArrayLike<number>} mean @param {ArrayLike<number>} high
 * @param {ArrayLike<number>} nonfinite @param {ArrayLike<number> | null} baseline @returns {Track}
 */
function toTrack(ords, end, low, mean, high, nonfinite, baseline) {
  return { ords, end, low, mean, high, broken: Uint8Array.from(nonfinite), baseline };
}

/** @param {Record<string, any>} answer @returns {import("./state.js").RunEvent} */
function toEvent(answer) {
  return {
    kind: String(answer.kind),
    step: answer.step ?? null,
    label: String(answer.kind).replace("_", " "),
  };
}

/** @param {Record<string, any> | null} answer @returns {import("./monitor.js").Monitor | null} */
function toMonitor(answer) {
  if (!answer) return null;
  const training = Number(answer.training_seconds);
  return {
    share: answer.recent_share ?? answer.share,
    wholeShare: answer.share,
    background: training > 0 ? Number(answer.background_seconds) / training : null,
    sent: Number(answer.bytes_sent),
    dropped: Number(answer.frames_dropped),
    refused: Number(answer.batches_rejected),
    errors: Number(answer.errors),
    thinnedSince: answer.thinned ? answer.thinned_since ?? 0 : null,
    why: String(answer.thinned_why),
    told: /** @type {Record<string, any>[]} */ (answer.client_errors).map((event) => ({
      step: event.step ?? null,
      part: String(event.data.part ?? ""),
      message: String(event.data.error ?? ""),
    })),
  };
}

/** @param {Record<string, any>} answer @returns {Incident} */
function toIncident(answer) {
  return {
    number: answer.number,
    severity: answer.severity,
    state: answer.state,
    sentence: answer.sentence,
    group: answer.group ?? null,
    root: answer.root_series ?? null,
    onset: answer.onset_step,
    loss: answer.loss_step ?? null,
    recovered: answer.recovered_step ?? null,
    opened: answer.opened_ord ?? Infinity,
    departures: answer.departures ?? [],
  };
}
