// @ts-check
/** What the monitor costs the training, and what it lost: one quiet line, and more when it is opened. */
import { whole } from "./numbers.js";

/**
 * @typedef {object} Monitor shares are of the training's time, null before there is any
 * @property {number | null} share of the newest frames
 * @property {number | null} wholeShare of the attempt
 * @property {number | null} background CPU time of the threads that send
 * @property {number} sent bytes
 * @property {number} dropped frames
 * @property {number} refused batches
 * @property {number} errors
 * @property {number | null} thinnedSince step; null: measured as often as it was set
 * @property {string} why
 * @property {{step: number | null, part: string, message: string}[]} told newest last
 */

/** A share as a person reads it: 0.4%, 12%. @param {number | null} share */
export function percent(share) {
  if (share === null) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)}%`;
}

/** An amount of data: 812 B, 3.4 MB. @param {number} count */
export function bytes(count) {
  const power = count < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value < 10 && power ? value.toFixed(1) : Math.round(value)} ${
    ["B", "kB", "MB", "GB", "TB"][power]
  }`;
}

/** @param {number} count @param {string} one @param {string} many */
function counted(count, one, many) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

/**
 * The line: what is always told, and what somebody should look at.
 * @param {Monitor} monitor
 */
export function monitorWords(monitor) {
  const calm = [`${percent(monitor.share)} of the step`, `${bytes(monitor.sent)} sent`];
  if (monitor.thinnedSince !== null) {
    calm.push(`measuring less often since step ${whole(monitor.thinnedSince)}`);
  }
  const wrong = [];
  if (monitor.dropped) wrong.push(`${counted(monitor.dropped, "frame", "frames")} dropped`);
  if (monitor.refused) wrong.push(`${counted(monitor.refused, "batch", "batches")} refused`);
  if (monitor.errors) wrong.push(counted(monitor.errors, "client error", "client errors"));
  if (!wrong.length) calm.push("nothing lost");
  return { calm, wrong };
}

/** @param {string} name @param {string} text @param {Record<string, string>} [data] */
function make(name, text, data) {
  const made = document.createElement(name);
  made.textContent = text;
  Object.assign(made.dataset, data ?? {});
  return made;
}

/** @param {Monitor | null} monitor */
export function drawMonitor(monitor) {
  const host = /** @type {HTMLElement} */ (document.getElementById("monitor"));
  // Frames that somebody posts without our client come with no account.
  host.hidden = !monitor || (monitor.share === null && !monitor.sent && !monitor.errors && !monitor.dropped);
  if (host.hidden || !monitor) return;
  const { calm, wrong } = monitorWords(monitor);
  host.dataset.severity = wrong.length ? "warning" : "";
  const line = /** @type {HTMLElement} */ (document.getElementById("monitor-line"));
  line.replaceChildren(
    make("b", "Monitor"),
    ...wrong.map((text) => make("span", text, { wrong: "" })),
    ...calm.map((text) => make("span", text)),
  );
  const facts = [
    [
      "Training thread",
      `${percent(monitor.share)} of the newest steps, ${percent(monitor.wholeShare)} of the attempt`,
    ],
    ["Sending threads", `${percent(monitor.background)} of one CPU core`],
    ...(monitor.why ? [["Cadence", monitor.why]] : []),
    ...(monitor.dropped
      ? [["Dropped", "the client had no room: the service was away or slow, or the disk is full"]]
      : []),
    ...(monitor.refused ? [["Refused", "kept in the client's spool folder; its log says why"]] : []),
    ...monitor.told.map(({ step, part, message }) => [
      step === null ? "Error" : `Error at step ${whole(step)}`,
      part ? `${part}: ${message}` : message,
    ]),
  ];
  const list = /** @type {HTMLElement} */ (document.getElementById("monitor-facts"));
  list.replaceChildren(...facts.flatMap(([name = "", text = ""]) => [make("dt", name), make("dd", text)]));
}
