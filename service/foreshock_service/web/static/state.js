// @ts-check
/** What the Run page knows and shows; every drawing reads this and nothing else. */

/** @typedef {import("./pool.js").View} View */
/** @typedef {import("./pool.js").Grid} Grid */
/** @typedef {import("./view.js").Cell} Cell */
/** @typedef {import("./sheet.js").Colours} Colours */
/** @typedef {import("./palette.js").Coding} Coding */
/** @typedef {import("./clock.js").Clock} Clock */

/** @typedef {{index: number, name: string, kind: string, depth: number}} Series */
/** @typedef {{series: string, step: number, ratio: number}} Departure */
/**
 * @typedef {object} Incident
 * @property {number} number
 * @property {string} severity
 * @property {string} state
 * @property {string} sentence
 * @property {string | null} group
 * @property {string | null} root `kind:name` of the first series to leave
 * @property {number} onset step
 * @property {number | null} loss step at which the loss moved
 * @property {number | null} recovered step
 * @property {number} opened ord at which it was opened
 * @property {Departure[]} departures
 */
/** @typedef {{kind: string, step: number | null, label: string}} RunEvent */
/**
 * @typedef {object} Track one number over columns of frames
 * @property {Float64Array} ords first ord of each column
 * @property {number} end one past the last ord
 * @property {Numbers} low @property {Numbers} mean @property {Numbers} high NaN: nothing finite
 * @property {Uint8Array} broken 1: the column holds a NaN or Inf
 * @property {Numbers | null} baseline
 */
/** @typedef {ArrayLike<number>} Numbers */

/**
 * @typedef {object} State
 * @property {string} run
 * @property {number} frames how many there are; ords run from 0 to this
 * @property {string} status what the service says of the run: running, finished, crashed
 * @property {number} heardAt milliseconds since the epoch
 * @property {Series[]} series
 * @property {Series[]} rows those of the chosen kind, in depth order: the rows of the heatmap
 * @property {Incident[]} incidents in order of onset
 * @property {RunEvent[]} events
 * @property {import("./clock.js").Restart[]} restarts
 * @property {Clock} clock
 * @property {View} view
 * @property {boolean} following the window's right edge is the newest frame and moves with it
 * @property {string} kind
 * @property {string} statistic
 * @property {"absolute" | "deviation"} mode
 * @property {Cell | null} pin
 * @property {Cell | null} hover
 * @property {number | null} incident number of the chosen one
 * @property {Record<string, {whole: Track, near: Track | null}>} scalars
 * @property {Grid | null} whole heatmap of the whole run
 * @property {Grid | null} near heatmap of the window, at its own resolution
 * @property {Coding} coding
 * @property {Track | null} line the chosen series
 * @property {Uint32Array} table colour of each code
 * @property {Colours} colours
 * @property {number} gutter
 */

/** The chosen incident. @param {State} state */
export function chosenIncident(state) {
  return state.incidents.find((incident) => incident.number === state.incident) ?? null;
}

/** The ord of an incident's onset and of the loss's answer. @param {State} state @param {Incident} incident */
export function incidentOrds(state, incident) {
  const onset = state.clock.ordOf(incident.onset, incident.opened);
  const loss = incident.loss === null ? null : Math.max(onset, state.clock.ordOf(incident.loss));
  const end = incident.recovered === null ? null : Math.max(onset, state.clock.ordOf(incident.recovered));
  return { onset, loss, end };
}

/** The row of a series named `kind:name`, -1 where another kind is shown. @param {State} state @param {string | null} name */
export function rowOf(state, name) {
  if (name === null) return -1;
  return state.rows.findIndex((series) => `${series.kind}:${series.name}` === name);
}

/** Where the crosshair stands: under the pointer, else at the pin. @param {State} state */
export function focus(state) {
  return state.hover ?? state.pin;
}

/** From an ord to a pixel. @param {State} state @param {number} width of the sheet */
export function scaleX(state, width) {
  const { x0, x1 } = state.view;
  return (/** @type {number} */ ord) => state.gutter + ((ord - x0) / (x1 - x0)) * (width - state.gutter);
}

/** The code of a cell and the grid it came from, the sharp window first. @param {State} state @param {Cell} cell */
export function codeAt(state, cell) {
  for (const grid of [state.near, state.whole]) {
    if (!grid || cell.ord < grid.from || cell.ord >= grid.to) continue;
    const column = Math.min(
      grid.columns - 1,
      Math.floor(((cell.ord - grid.from) / (grid.to - grid.from)) * grid.columns),
    );
    return grid.codes[cell.row * grid.columns + column] ?? 0;
  }
  return 0;
}
