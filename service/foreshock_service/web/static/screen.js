// @ts-check
/** Every drawing of the Run page, redrawn at most once a frame of the screen. */
import { Heatmap } from "./heatmap.js";
import { Brush, Lane, StepAxis } from "./lane.js";
import { measure, whole } from "./numbers.js";
import { colourTable, drawLegend, shownRange } from "./palette.js";
import { Profile } from "./profile.js";
import { cellText, drawReadout, drawTip, element, write } from "./readout.js";
import { gutter, readColours } from "./sheet.js";
import { LineTrack } from "./tracks.js";

/** @typedef {import("./state.js").State} State */

export class Screen {
  /** @param {State} state @param {(row: number) => void} choose called when a tensor of a list is chosen */
  constructor(state, choose) {
    this.state = state;
    this.choose = choose;
    this.heatmap = new Heatmap(element("heatmap"));
    this.brush = new Brush(element("brush"));
    this.lane = new Lane(element("lane"));
    this.axis = new StepAxis(element("axis"));
    this.profile = new Profile(element("profile"));
    this.tracks = [
      new LineTrack(element("loss"), "text", (s) => both(s, "loss")),
      new LineTrack(element("grad_norm"), "link", (s) => both(s, "grad_norm")),
      new LineTrack(element("series"), "text", (s) => [s.line]),
    ];
    /** @type {"first" | "largest"} */
    this.list = "first";
    /** @type {[number, number]} */
    this.shown = [0, 1];
    /** @type {"all" | "marks" | null} */
    this.due = null;
    /** @type {{x: number, y: number} | null} */
    this.pointer = null;
    const resize = new ResizeObserver(() => this.#resized());
    for (const id of ["loss", "heatmap"]) resize.observe(element(id));
    document.addEventListener("themechange", () => this.#themed());
    for (const list of /** @type {const} */ (["first", "largest"])) {
      element(`list-${list}`).addEventListener("click", () => this.#showList(list));
    }
  }

  /** Device pixels across the plots: more columns than that cannot be seen. */
  columns() {
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    return Math.max(
      16,
      Math.min(4096, Math.round((element("loss").clientWidth - this.state.gutter) * ratio)),
    );
  }

  /** Redraw everything, or only what follows the pointer, before the next frame. @param {"all" | "marks"} what */
  redraw(what) {
    if (this.due === null) requestAnimationFrame(() => this.#draw());
    if (this.due !== "all") this.due = what;
  }

  /** The pointer moved. @param {{x: number, y: number} | null} at inside the heatmap */
  point(at) {
    this.pointer = at;
    this.redraw("marks");
  }

  /** Make the colours anew: other theme, metric or range. */
  recolour() {
    const { state } = this;
    const { mode, low, high } = state.coding;
    if (state.whole) {
      this.shown = mode === "absolute" ? shownRange(state.whole.codes, low, high) : [low, high];
    }
    state.table = colourTable(state.colours, state.coding, this.shown);
    drawLegend(/** @type {HTMLCanvasElement} */ (element("legend")), state.colours, mode);
    const [from, to] = this.shown.map((exponent) => measure(10 ** exponent));
    write("legend-low", mode === "deviation" ? "1/1000" : from ?? "");
    write("legend-middle", mode === "deviation" ? "baseline" : "");
    write("legend-high", mode === "deviation" ? "1000×" : to ?? "");
    element("show-deviation").setAttribute("aria-pressed", String(state.mode === "deviation"));
    element("show-absolute").setAttribute("aria-pressed", String(state.mode === "absolute"));
  }

  /** Tell a screen reader what the pinned cell says. */
  announce() {
    const { state } = this;
    if (!state.pin) return;
    const step = `step ${whole(state.clock.stepAt(state.pin.ord))}`;
    const name = state.rows[state.pin.row]?.name;
    write("spoken", name ? `${name}, ${step}: ${cellText(state, state.pin)}` : step);
  }

  #draw() {
    const { state } = this;
    if (this.due === "all") {
      this.heatmap.draw(state);
      this.brush.draw(state);
      this.lane.draw(state);
      this.axis.draw(state);
      for (const track of this.tracks) track.draw(state);
    }
    this.due = null;
    this.heatmap.drawMarks(state);
    for (const track of this.tracks) track.drawMarks(state);
    this.profile.draw(state, this.shown);
    drawReadout(state, this.list, this.choose);
    drawTip(state, this.pointer);
  }

  #resized() {
    this.state.gutter = gutter();
    this.redraw("all");
  }

  #themed() {
    this.state.colours = readColours();
    this.recolour();
    this.redraw("all");
  }

  /** @param {"first" | "largest"} list */
  #showList(list) {
    this.list = list;
    element("list-first").setAttribute("aria-pressed", String(list === "first"));
    element("list-largest").setAttribute("aria-pressed", String(list === "largest"));
    this.redraw("marks");
  }
}

/** @param {State} state @param {string} name */
function both(state, name) {
  const scalar = state.scalars[name];
  return scalar ? [scalar.whole, scalar.near] : [];
}
