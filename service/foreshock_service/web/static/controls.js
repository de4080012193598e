// @ts-check
/** Pointer, wheel and keys: they say what the person wants, and the page does it. */
import { pan, zoom } from "./view.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./view.js").Cell} Cell */
/** @typedef {import("./pool.js").View} View */
/**
 * @typedef {object} Wishes
 * @property {(view: View) => void} show
 * @property {(cell: Cell | null, at: {x: number, y: number} | null) => void} hover
 * @property {(cell: Cell | null) => void} pin
 * @property {(incident: number) => void} choose
 * @property {(step: 1 | -1) => void} neighbour
 * @property {() => void} zoomIncident
 * @property {() => void} switchMode
 * @property {() => void} whole
 * @property {() => void} switchTheme
 * @property {() => void} help
 */

/** Pixels that a press may wander and still be a click. */
const CLICK_SLACK = 4;
const WHEEL_RATE = 0.0016;

/** @param {State} state @param {HTMLElement} host @param {PointerEvent | WheelEvent | MouseEvent} event @returns {Cell} */
function cellUnder(state, host, event) {
  const box = host.getBoundingClientRect();
  const { view, gutter } = state;
  const across = (event.clientX - box.left - gutter) / Math.max(1, box.width - gutter);
  const down = (event.clientY - box.top) / Math.max(1, box.height);
  return { ord: view.x0 + across * (view.x1 - view.x0), row: view.y0 + down * (view.y1 - view.y0) };
}

/**
 * Drag, wheel, hover and click on a plot; `rows` says whether its y axis is the rows.
 * @param {HTMLElement} host @param {State} state @param {Wishes} wishes @param {boolean} rows
 */
export function controlPlot(host, state, wishes, rows) {
  /** @type {{x: number, y: number, view: View, moved: boolean} | null} */
  let press = null;
  const whole = (/** @type {Cell} */ cell) => ({
    ord: Math.max(0, Math.min(state.frames - 1, Math.floor(cell.ord))),
    row: rows ? Math.max(0, Math.min(state.rows.length - 1, Math.floor(cell.row))) : -1,
  });
  host.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    press = { x: event.clientX, y: event.clientY, view: state.view, moved: false };
    host.setPointerCapture(event.pointerId);
  });
  host.addEventListener("pointermove", (event) => {
    const box = host.getBoundingClientRect();
    if (!press) {
      wishes.hover(whole(cellUnder(state, host, event)), {
        x: event.clientX - box.left,
        y: event.clientY - box.top,
      });
      return;
    }
    const across = event.clientX - press.x;
    const down = event.clientY - press.y;
    press.moved ||= Math.hypot(across, down) > CLICK_SLACK;
    if (!press.moved) return;
    const { view } = press;
    const frames = (-across * (view.x1 - view.x0)) / Math.max(1, box.width - state.gutter);
    const moved = rows ? (-down * (view.y1 - view.y0)) / Math.max(1, box.height) : 0;
    wishes.hover(null, null);
    wishes.show(pan(view, frames, moved));
  });
  host.addEventListener("pointerup", (event) => {
    if (press && !press.moved) {
      const cell = whole(cellUnder(state, host, event));
      wishes.pin(rows ? cell : { ord: cell.ord, row: state.pin?.row ?? 0 });
    }
    press = null;
  });
  host.addEventListener("pointercancel", () => press = null);
  host.addEventListener("pointerleave", () => wishes.hover(null, null));
  host.addEventListener("dblclick", () => wishes.whole());
  host.addEventListener("wheel", (event) => {
    // A page that scrolls keeps its wheel, unless a modifier says that the plot is meant.
    const scrolls = document.documentElement.scrollHeight > innerHeight + 1;
    if (scrolls && !event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const amount = Math.exp((event.deltaY || event.deltaX) * WHEEL_RATE);
    const axes = { x: !event.shiftKey || event.ctrlKey, y: rows && (event.shiftKey || event.ctrlKey) };
    wishes.show(zoom(state.view, amount, cellUnder(state, host, event), axes));
  }, { passive: false });
}

/** Drag on the whole-run strip to place the window. @param {HTMLElement} host @param {State} state @param {Wishes} wishes */
export function controlBrush(host, state, wishes) {
  const place = (/** @type {PointerEvent} */ event) => {
    const box = host.getBoundingClientRect();
    const share = (event.clientX - box.left - state.gutter) / Math.max(1, box.width - state.gutter);
    const half = (state.view.x1 - state.view.x0) / 2;
    const middle = share * state.frames;
    wishes.show({ ...state.view, x0: middle - half, x1: middle + half });
  };
  host.addEventListener("pointerdown", (event) => {
    host.setPointerCapture(event.pointerId);
    place(event);
  });
  host.addEventListener("pointermove", (event) => {
    if (host.hasPointerCapture(event.pointerId)) place(event);
  });
  host.addEventListener("dblclick", () => wishes.whole());
}

/** Keys of the page. @param {State} state @param {Wishes} wishes */
export function controlKeys(state, wishes) {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("select, input, dialog[open]") || event.altKey || event.metaKey || event.ctrlKey) {
      return;
    }
    const act = action(event.key, event.shiftKey ? 10 : 1, state, wishes);
    if (!act) return;
    // Enter and space stay with the button that has the focus.
    event.preventDefault();
    act();
  });
}

/**
 * @param {string} key @param {number} times @param {State} state @param {Wishes} wishes
 * @returns {(() => void) | null}
 */
function action(key, times, state, wishes) {
  const wide = state.view.x1 - state.view.x0;
  const middle = { ord: (state.view.x0 + state.view.x1) / 2, row: (state.view.y0 + state.view.y1) / 2 };
  const move = (/** @type {number} */ frames, /** @type {number} */ rows) => () => {
    const from = state.pin ?? { ord: Math.round(middle.ord), row: 0 };
    wishes.pin({
      ord: Math.max(0, Math.min(state.frames - 1, from.ord + frames)),
      row: Math.max(0, Math.min(state.rows.length - 1, from.row + rows)),
    });
  };
  const reach = Math.max(1, Math.round(wide / 400)) * times;
  /** @type {Record<string, () => void>} */
  const actions = {
    ArrowLeft: move(-reach, 0),
    ArrowRight: move(reach, 0),
    ArrowUp: move(0, -times),
    ArrowDown: move(0, times),
    a: () => wishes.show(pan(state.view, -wide * 0.1 * Math.min(times, 5), 0)),
    d: () => wishes.show(pan(state.view, wide * 0.1 * Math.min(times, 5), 0)),
    w: () => wishes.show(zoom(state.view, 0.75, state.pin ?? middle, { x: true, y: false })),
    s: () => wishes.show(zoom(state.view, 1 / 0.75, state.pin ?? middle, { x: true, y: false })),
    "[": () => wishes.neighbour(-1),
    "]": () => wishes.neighbour(1),
    f: wishes.zoomIncident,
    m: wishes.switchMode,
    0: wishes.whole,
    t: wishes.switchTheme,
    "?": wishes.help,
    Escape: () => wishes.pin(null),
  };
  return actions[key.length === 1 ? key.toLowerCase() : key] ?? null;
}
