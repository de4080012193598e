// @ts-check
/** From a code to a colour: one table of 65,536 entries, so that recolouring never touches the matrix. */
import { decadesOf, exponentOf, INF, MISSING, NAN } from "./codes.js";
import { channels } from "./sheet.js";

/** @typedef {import("./sheet.js").Colours} Colours */

/** Within a factor of two of its baseline a cell is calm, at a thousandfold it is at full colour. */
const CALM_DECADES = Math.log10(2);
export const FULL_DECADES = 3;

/** @param {string[]} stops @returns {(share: number) => number} colour as little-endian RGBA */
function gradient(stops) {
  const parts = stops.map(channels);
  return (share) => {
    const place = Math.max(0, Math.min(1, share)) * (parts.length - 1);
    const index = Math.min(Math.floor(place), parts.length - 2);
    const rest = place - index;
    const low = parts[index];
    const high = parts[index + 1];
    if (!low || !high) return 0;
    const red = low.red + (high.red - low.red) * rest;
    const green = low.green + (high.green - low.green) * rest;
    const blue = low.blue + (high.blue - low.blue) * rest;
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  };
}

/** @param {Colours} colours */
function ramps(colours) {
  return {
    above: gradient([
      colours.calm,
      colours["above-1"],
      colours["above-2"],
      colours["above-3"],
      colours["above-4"],
    ]),
    below: gradient([
      colours.calm,
      colours["below-1"],
      colours["below-2"],
      colours["below-3"],
      colours["below-4"],
    ]),
    value: gradient([1, 2, 3, 4, 5, 6].map((n) => colours[/** @type {"value-1"} */ (`value-${n}`)])),
  };
}

/** Share of full colour for a deviation. @param {number} decades */
export function deviationShare(decades) {
  const size = (Math.abs(decades) - CALM_DECADES) / (FULL_DECADES - CALM_DECADES);
  return size <= 0 ? 0 : size ** 0.75;
}

/**
 * @typedef {{mode: "absolute" | "deviation", low: number, high: number, scale: number}} Coding
 * low, high: exponents of the absolute codes; scale: codes a decade of deviation.
 */

/**
 * The colour of every code.
 * @param {Colours} colours @param {Coding} coding
 * @param {[number, number]} shown exponents at the ends of the absolute colours
 */
export function colourTable(colours, coding, shown) {
  const table = new Uint32Array(65536);
  const { above, below, value } = ramps(colours);
  const span = Math.max(1e-9, shown[1] - shown[0]);
  for (let code = 1; code < INF; code++) {
    if (coding.mode === "deviation") {
      const decades = decadesOf(code, coding.scale);
      table[code] = (decades < 0 ? below : above)(deviationShare(decades));
    } else {
      table[code] = value((exponentOf(code, coding.low, coding.high) - shown[0]) / span);
    }
  }
  table[MISSING] = gradient([colours.missing, colours.missing])(0);
  table[INF] = gradient([colours.nonfinite, colours.nonfinite])(0);
  table[NAN] = table[INF] ?? 0;
  return table;
}

/**
 * Draw the legend's bar, from the lowest value to the highest.
 * @param {HTMLCanvasElement} canvas @param {Colours} colours @param {"absolute" | "deviation"} mode
 */
export function drawLegend(canvas, colours, mode) {
  const context = canvas.getContext("2d");
  if (!context) return;
  const { above, below, value } = ramps(colours);
  const image = context.createImageData(canvas.width, 1);
  const pixels = new Uint32Array(image.data.buffer);
  for (let x = 0; x < canvas.width; x++) {
    const share = x / (canvas.width - 1);
    const decades = (share * 2 - 1) * FULL_DECADES;
    if (mode === "absolute") pixels[x] = value(share);
    else pixels[x] = (decades < 0 ? below : above)(deviationShare(decades));
  }
  context.putImageData(image, 0, 0);
}

/**
 * The range of exponents that holds nearly every finite cell: one outlier must not flatten the rest.
 * @param {Uint16Array} codes @param {number} low @param {number} high @returns {[number, number]}
 */
export function shownRange(codes, low, high) {
  const stride = Math.max(1, Math.floor(codes.length / 20000));
  /** @type {number[]} */
  const sample = [];
  for (let index = 0; index < codes.length; index += stride) {
    const code = codes[index] ?? 0;
    if (code > 1 && code < INF) sample.push(code);
  }
  sample.sort((a, b) => a - b);
  const least = sample[Math.floor(sample.length * 0.01)];
  const most = sample[Math.floor(sample.length * 0.995)];
  if (least === undefined || most === undefined) return [low, high];
  const from = Math.floor(exponentOf(least, low, high));
  return [from, Math.max(from + 1, Math.ceil(exponentOf(most, low, high)))];
}
