// @ts-check
/** Brings the plots' numbers into the state: the whole run coarsely, the window sharply. */
import { restartsOf } from "./clock.js";

/** @typedef {import("./state.js").State} State */

/** Columns of the whole-run answers: sharp enough while a gesture lasts. */
const WHOLE_COLUMNS = 1024;
/** A gesture is over when nothing moved for this long; then the window is fetched sharply. */
const REST_MILLISECONDS = 140;
const SCALARS = ["loss", "grad_norm"];

export class Fetching {
  /**
   * @param {import("./data.js").RunData} data @param {State} state
   * @param {import("./screen.js").Screen} screen @param {(error: unknown) => void} complain
   */
  constructor(data, state, screen, complain) {
    this.data = data;
    this.state = state;
    this.screen = screen;
    this.complain = complain;
    /** @type {Record<"whole" | "near", AbortController | null>} */
    this.asking = { whole: null, near: null };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.resting = undefined;
  }

  /** The whole run; an answer that was overtaken is dropped. */
  async whole() {
    const { data, state } = this;
    const window = { from: 0, to: state.frames, columns: WHOLE_COLUMNS };
    await this.#ask("whole", async (signal) => {
      const [heat, scalars] = await Promise.all([
        this.#heatmap(window, signal),
        data.scalars(SCALARS, window, signal),
      ]);
      if (signal.aborted) return;
      if (heat) {
        state.whole = heat.grid;
        state.coding = heat.coding;
      }
      state.clock = scalars.clock;
      state.restarts = restartsOf(scalars.clock, scalars.attempts);
      for (const [name, track] of Object.entries(scalars.tracks)) {
        state.scalars[name] = { whole: track, near: state.scalars[name]?.near ?? null };
      }
    });
  }

  /** What the window shows, a column a pixel; an answer that was overtaken is dropped. */
  async near() {
    const { data, state, screen } = this;
    const { view, pin } = state;
    const window = { from: view.x0, to: Math.min(view.x1, state.frames), columns: screen.columns() };
    const series = pin ? state.rows[pin.row] : undefined;
    await this.#ask("near", async (signal) => {
      const [heat, scalars, line] = await Promise.all([
        this.#heatmap(window, signal),
        data.scalars(SCALARS, window, signal),
        series ? data.line(series.index, state.statistic, window, signal) : null,
      ]);
      if (signal.aborted) return;
      state.near = heat && heat.grid;
      state.line = line;
      for (const [name, track] of Object.entries(scalars.tracks)) {
        const scalar = state.scalars[name];
        if (scalar) scalar.near = track;
      }
      screen.redraw("all");
    });
  }

  /** The window once the gesture is over. */
  nearSoon() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.near(), REST_MILLISECONDS);
  }

  /** Null where the run logs scalars only. @param {import("./data.js").Window} window @param {AbortSignal} signal */
  #heatmap(window, signal) {
    const { series, kind, statistic, mode } = this.state;
    return series.length ? this.data.heatmap({ kind, statistic, mode }, window, signal) : null;
  }

  /** @param {"whole" | "near"} what @param {(signal: AbortSignal) => Promise<void>} work */
  async #ask(what, work) {
    this.asking[what]?.abort();
    const { signal } = this.asking[what] = new AbortController();
    try {
      await work(signal);
    } catch (error) {
      if (!signal.aborted) this.complain(error);
    }
  }
}
