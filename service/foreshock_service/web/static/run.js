// @ts-check
/** The Run page: puts state, data, drawings and controls together. */
import { controlBrush, controlKeys, controlPlot } from "./controls.js";
import { Clock } from "./clock.js";
import { RunData } from "./data.js";
import { Fetching } from "./fetching.js";
import { Follower } from "./news.js";
import { drawMonitor } from "./monitor.js";
import { Screen } from "./screen.js";
import { element, write } from "./readout.js";
import { gutter, readColours } from "./sheet.js";
import { chosenIncident, incidentOrds, rowOf } from "./state.js";
import { toggle } from "./theme.js";
import { clamp, readAddress, writeAddress } from "./view.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./pool.js").View} View */

const run = document.body.dataset.run ?? "";
const data = new RunData(run);
const shared = readAddress(location.search);

/** @type {State} */
const state = {
  run,
  frames: 0,
  status: "running",
  heardAt: Date.now(),
  series: [],
  rows: [],
  incidents: [],
  events: [],
  restarts: [],
  clock: new Clock([], [], 0),
  view: { x0: 0, x1: 1, y0: 0, y1: 1 },
  following: true,
  kind: "",
  statistic: "",
  mode: shared.mode ?? "deviation",
  pin: shared.cell,
  hover: null,
  incident: shared.incident,
  scalars: {},
  whole: null,
  near: null,
  line: null,
  coding: { mode: "deviation", low: -1, high: 1, scale: 1 },
  table: new Uint32Array(65536),
  colours: readColours(),
  gutter: gutter(),
};
const screen = new Screen(state, chooseRow);

const fetching = new Fetching(data, state, screen, complain);

/** @param {unknown} error */
function complain(error) {
  write("trouble", error instanceof Error ? error.message : String(error));
  element("trouble").hidden = false;
}

// ---- what a person can do ------------------------------------------------------------------------

/** @param {View} view */
function show(view) {
  state.view = clamp(view, state.frames, state.rows.length);
  state.following = state.view.x1 >= state.frames - 0.5;
  screen.redraw("all");
  fetching.nearSoon();
  share();
}

/** @param {import("./view.js").Cell | null} cell */
function pin(cell) {
  const before = state.pin?.row;
  state.pin = cell;
  screen.redraw("all");
  if (cell && cell.row !== before) fetching.nearSoon();
  if (cell) screen.announce();
  share();
}

/** @param {number} row */
function chooseRow(row) {
  pin({ ord: state.pin?.ord ?? Math.max(0, state.frames - 1), row });
}

/** @param {number} number */
function choose(number) {
  state.incident = number;
  const incident = chosenIncident(state);
  if (!incident) return;
  const { onset } = incidentOrds(state, incident);
  const row = rowOf(state, incident.root);
  pin({ ord: onset, row: Math.max(0, row) });
  void showVerdict();
}

/** @param {1 | -1} step */
function neighbour(step) {
  const count = state.incidents.length;
  const at = state.incidents.findIndex((incident) => incident.number === state.incident);
  const next = state.incidents[at < 0 ? count - 1 : (at + step + count) % count];
  if (next) choose(next.number);
}

function zoomIncident() {
  const incident = chosenIncident(state);
  if (!incident) return;
  const { onset, loss, end } = incidentOrds(state, incident);
  const last = Math.min(state.frames, Math.max(end ?? 0, loss ?? 0, onset + 40));
  const room = Math.max(20, (last - onset) * 0.9);
  show({ ...state.view, x0: onset - room, x1: last + room });
}

function wholeRun() {
  show({ x0: 0, x1: state.frames, y0: 0, y1: state.rows.length });
}

async function showMetric() {
  // Only the root mean square has a baseline; everything else is shown as it is.
  const known = state.statistic === "rms";
  if (!known) state.mode = "absolute";
  /** @type {HTMLButtonElement} */ (element("show-deviation")).disabled = !known;
  state.rows = state.series.filter((series) => series.kind === state.kind);
  state.near = null;
  state.line = null;
  state.view = clamp({ ...state.view, y0: 0, y1: state.rows.length }, state.frames, state.rows.length);
  if (state.pin) state.pin.row = Math.min(state.pin.row, Math.max(0, state.rows.length - 1));
  element("trouble").hidden = true;
  await fetching.whole();
  screen.recolour();
  screen.redraw("all");
  fetching.nearSoon();
  share();
}

/** @param {"absolute" | "deviation"} mode */
function showMode(mode) {
  state.mode = mode;
  void showMetric();
}

function share() {
  const { view, frames, rows } = state;
  const entire = view.x0 <= 0 && view.x1 >= frames && view.y0 <= 0 && view.y1 >= rows.length;
  const address = writeAddress({
    view: entire ? null : view,
    cell: state.pin,
    incident: state.incident,
    kind: state.kind,
    statistic: state.statistic,
    mode: state.mode,
  });
  history.replaceState(null, "", address || location.pathname);
}

/** The server words the verdict; the page only puts it in its place. */
async function showVerdict() {
  const query = state.incident === null ? "" : `?incident=${state.incident}`;
  const response = await fetch(`/runs/${encodeURIComponent(run)}/verdict${query}`);
  if (!response.ok) return;
  const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
  const fresh = parsed.getElementById("verdict");
  if (fresh) element("verdict").replaceWith(document.adoptNode(fresh));
}

// ---- start ---------------------------------------------------------------------------------------

/** @param {string[]} statistics */
function fillMetrics(statistics) {
  const select = /** @type {HTMLSelectElement} */ (element("metric"));
  for (const kind of [...new Set(state.series.map((series) => series.kind))]) {
    const group = document.createElement("optgroup");
    group.label = kind.replace("_", " ");
    for (const statistic of statistics) {
      const option = document.createElement("option");
      option.value = `${kind}/${statistic}`;
      option.textContent = `${kind.replace("_", " ")} ${statistic.replaceAll("_", " ")}`;
      group.append(option);
    }
    select.append(group);
  }
  const kinds = new Set(state.series.map((series) => series.kind));
  const root = chosenIncident(state)?.root?.split(":")[0] ?? "";
  state.kind = [shared.kind ?? "", root, "gradient"].find((kind) => kinds.has(kind)) ?? [...kinds][0] ?? "";
  state.statistic = statistics.includes(shared.statistic ?? "") ? shared.statistic ?? "" : "rms";
  select.value = `${state.kind}/${state.statistic}`;
  select.addEventListener("change", () => {
    [state.kind = "", state.statistic = ""] = select.value.split("/");
    void showMetric();
  });
}

/** @type {import("./controls.js").Wishes} */
const wishes = {
  show,
  pin,
  choose,
  neighbour,
  zoomIncident,
  hover: (cell, at) => {
    state.hover = cell;
    screen.point(at);
  },
  switchMode: () => showMode(state.mode === "deviation" ? "absolute" : "deviation"),
  whole: wholeRun,
  switchTheme: toggle,
  help: () => /** @type {HTMLDialogElement} */ (element("help")).showModal(),
};

function control() {
  controlPlot(element("heatmap"), state, wishes, true);
  for (const id of ["loss", "grad_norm", "series"]) controlPlot(element(id), state, wishes, false);
  controlBrush(element("brush"), state, wishes);
  controlKeys(state, wishes);
  element("lane").addEventListener("click", (event) => {
    const number = screen.lane.incidentAt(event.offsetX);
    if (number !== null) choose(number);
  });
  element("show-deviation").addEventListener("click", () => showMode("deviation"));
  element("show-absolute").addEventListener("click", () => showMode("absolute"));
  element("show-whole").addEventListener("click", wholeRun);
  element("open-help").addEventListener("click", wishes.help);
  document.addEventListener("click", (event) => {
    const id = /** @type {HTMLElement} */ (event.target).id;
    if (id === "zoom-incident") zoomIncident();
    if (id === "copy-verdict") {
      void navigator.clipboard.writeText(`${element("sentence").textContent?.trim()}\n${location.href}`);
    }
  });
}

async function start() {
  const [fresh, table, incidents] = await Promise.all([data.run(), data.series(), data.incidents()]);
  const { monitor, ...known } = fresh;
  Object.assign(state, known, { series: table.series, incidents });
  drawMonitor(monitor);
  state.incident ??= incidents.findLast((incident) => incident.state === "open")?.number ?? null;
  fillMetrics(table.statistics);
  state.view = shared.view ?? { x0: 0, x1: state.frames, y0: 0, y1: Infinity };
  const wanted = shared.view;
  await showMetric();
  if (wanted) show(wanted);
  const incident = chosenIncident(state);
  if (incident && !state.pin) choose(incident.number);
  control();
  new Follower(data, state, screen, fetching, { verdict: showVerdict, complain });
  document.documentElement.dataset.ready = "";
}

start().catch(complain);
