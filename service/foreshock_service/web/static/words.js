// @ts-check
/** What the lane of events says to who cannot see it. No DOM here. */
import { whole } from "./numbers.js";

/** @typedef {import("./state.js").Incident} Incident */

/** Steps from the onset to the loss's answer, 0 where the loss has not moved. @param {Incident} incident */
export function leadOf(incident) {
  return incident.loss === null ? 0 : incident.loss - incident.onset;
}

/**
 * @param {Pick<import("./state.js").State, "incidents" | "events" | "restarts">} state
 * @returns {string}
 */
export function laneWords({ incidents, events, restarts }) {
  const checkpoints = events.filter((event) => event.kind === "checkpoint").length;
  const parts = [
    ...incidents.map((incident) => {
      const lead = leadOf(incident);
      const told = lead > 0 ? `, ${whole(lead)}-step lead` : "";
      return `incident ${incident.number} at step ${whole(incident.onset)}${told}`;
    }),
    ...restarts.map(({ step }) => `restart at step ${whole(step)}`),
    ...(checkpoints ? [checkpoints === 1 ? "1 checkpoint" : `${whole(checkpoints)} checkpoints`] : []),
  ];
  return parts.length ? `Along the run: ${parts.join("; ")}` : "Along the run: nothing happened";
}
