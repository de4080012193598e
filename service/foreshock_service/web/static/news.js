// @ts-check
/** Keeps the page up with its run: asks for what the live stream says is new, one round at a time. */
import { Live } from "./live.js";
import { whole } from "./numbers.js";
import { drawMonitor } from "./monitor.js";
import { element, write } from "./readout.js";
import { inTurn } from "./turns.js";
import { clamp } from "./view.js";

/** @typedef {import("./state.js").State} State */

/** Between two rounds: nobody reads faster, and a run of small steps has news all the time. */
const REST_MILLISECONDS = 500;

export class Follower {
  /**
   * @param {import("./data.js").RunData} data @param {State} state
   * @param {import("./screen.js").Screen} screen @param {import("./fetching.js").Fetching} fetching
   * @param {{verdict: () => Promise<void>, complain: (error: unknown) => void}} tell
   */
  constructor(data, state, screen, fetching, tell) {
    this.data = data;
    this.state = state;
    this.screen = screen;
    this.fetching = fetching;
    this.tell = tell;
    /** What the next round has to ask for. */
    this.due = { frames: false, incidents: false };
    this.catchUp = inTurn(
      () => this.#round(),
      () => new Promise((done) => setTimeout(done, REST_MILLISECONDS)),
    );
    new Live(state.run, {
      news: (news) => this.#hear(news),
      condition: (condition) => this.#showCondition(condition),
    });
    setInterval(() => this.#showAge(), 1000);
  }

  /** @param {import("./live.js").News} news */
  #hear(news) {
    if ((news.upto ?? 0) > this.state.frames) {
      this.state.heardAt = Date.now();
      this.due.frames = true;
    }
    // A run that ends may do so without a frame.
    if (news.status !== undefined) this.due.frames = true;
    if (news.incident !== undefined) this.due.incidents = true;
    void this.catchUp();
  }

  async #round() {
    // Another tab passes its news on to hidden ones; they catch up when they are looked at.
    if (document.hidden || !(this.due.frames || this.due.incidents)) return;
    const { frames, incidents } = this.due;
    this.due = { frames: false, incidents: false };
    try {
      if (incidents) await this.#incidents();
      if (frames) await this.#frames();
      this.screen.redraw("all");
    } catch (error) {
      this.tell.complain(error);
    }
  }

  async #frames() {
    const { state, screen, fetching } = this;
    const before = state.frames;
    const fresh = await this.data.run();
    Object.assign(state, { events: fresh.events, status: fresh.status, heardAt: fresh.heardAt });
    this.#showCondition("live", { caughtUp: true });
    drawMonitor(fresh.monitor);
    if (fresh.frames === before) return;
    state.frames = fresh.frames;
    if (state.following) {
      const wide = state.view.x0 <= 0 ? state.frames : state.view.x1 - state.view.x0;
      const moved = { ...state.view, x0: state.frames - wide, x1: state.frames };
      state.view = clamp(moved, state.frames, state.rows.length);
    }
    await fetching.whole();
    write("head-step", whole(state.clock.stepAt(state.frames - 1)));
    screen.recolour();
    // A window on the past has nothing new in it.
    if (state.following) await fetching.near();
  }

  async #incidents() {
    const { state } = this;
    const before = JSON.stringify(state.incidents);
    state.incidents = await this.data.incidents();
    if (JSON.stringify(state.incidents) === before) return;
    state.incident ??= state.incidents.findLast((incident) => incident.state === "open")?.number ?? null;
    await this.tell.verdict();
  }

  /** @param {import("./live.js").Condition} condition @param {{caughtUp: boolean}} [how] */
  #showCondition(condition, how) {
    const ended = this.state.status !== "running";
    element("pulse").dataset.state = condition === "live" && ended ? "idle" : condition;
    const live = ended ? this.state.status : "live";
    write("pulse-word", condition === "lost" ? "reconnecting" : condition === "live" ? live : "connecting");
    if (condition !== "live" || how?.caughtUp) return;
    // The stream tells what comes: what came while it was closed has to be asked for.
    this.due = { frames: true, incidents: true };
    void this.catchUp();
  }

  #showAge() {
    const seconds = Math.max(0, Math.round((Date.now() - this.state.heardAt) / 1000));
    // Older than an hour, the page's own words are exact enough.
    if (seconds >= 3600) return;
    write(
      "pulse-age",
      seconds < 3 ? "now" : seconds < 90 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`,
    );
  }
}
