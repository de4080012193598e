// @ts-check
/**
 * News of a run. A browser allows six connections to a server over HTTP/1.1, so one tab listens and
 * tells the others; a hidden tab does not listen at all.
 */

/** @typedef {{upto?: number, incident?: number, status?: string}} News */
/** @typedef {"live" | "lost" | "waiting"} Condition */

export class Live {
  /**
   * @param {string} run
   * @param {{news: (news: News) => void, condition: (condition: Condition) => void}} tell
   */
  constructor(run, tell) {
    this.address = `/api/v1/runs/${encodeURIComponent(run)}/live`;
    this.tell = tell;
    this.channel = new BroadcastChannel(`foreshock-live-${run}`);
    this.channel.onmessage = ({ data }) => this.#hear(data);
    /** @type {AbortController | null} */
    this.turn = null;
    document.addEventListener("visibilitychange", () => this.#follow());
    addEventListener("pagehide", () => this.#stop());
    addEventListener("pageshow", () => this.#follow());
    this.#follow();
  }

  #follow() {
    if (document.hidden) this.#stop();
    else this.#start();
  }

  /** Wait for the turn to listen; the lock is held for as long as the stream is open. */
  #start() {
    if (this.turn) return;
    const turn = this.turn = new AbortController();
    const listen = () => this.#listen(turn.signal);
    if (!navigator.locks) {
      // Without a secure context there are no locks: every tab then listens for itself.
      void listen();
      return;
    }
    this.tell.condition("live");
    navigator.locks.request(this.address, { signal: turn.signal }, listen).catch(() => {
      // Given up while waiting: the tab was hidden or is being left.
    });
  }

  #stop() {
    this.turn?.abort();
    this.turn = null;
  }

  /** @param {AbortSignal} signal @returns {Promise<void>} settles when the stream is closed */
  #listen(signal) {
    return new Promise((done) => {
      if (signal.aborted) {
        done();
        return;
      }
      const source = new EventSource(this.address);
      source.onopen = () => this.#share({ condition: "live" });
      source.onerror = () => this.#share({ condition: "lost" });
      source.onmessage = ({ data }) => this.#share({ news: JSON.parse(data) });
      signal.addEventListener("abort", () => {
        source.close();
        done();
      });
    });
  }

  /** @param {{condition?: Condition, news?: News}} message */
  #share(message) {
    this.channel.postMessage(message);
    this.#hear(message);
  }

  /** @param {{condition?: Condition, news?: News}} message */
  #hear(message) {
    if (message.condition) this.tell.condition(message.condition);
    if (message.news) this.tell.news(message.news);
  }
}
