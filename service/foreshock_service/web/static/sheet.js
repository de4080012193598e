// @ts-check
/** A canvas that fills its element at device resolution, and the theme's colours as canvases need them. */

/** Names of the tokens in base.css that canvases draw with. */
const TOKENS = /** @type {const} */ ([
  "surface",
  "text",
  "soft",
  "rule",
  "faint",
  "link",
  "band",
  "critical",
  "warning",
  "good",
  "nonfinite",
  "missing",
  "calm",
  "page",
  "above-1",
  "above-2",
  "above-3",
  "above-4",
  "below-1",
  "below-2",
  "below-3",
  "below-4",
  "value-1",
  "value-2",
  "value-3",
  "value-4",
  "value-5",
  "value-6",
]);
/** @typedef {Record<typeof TOKENS[number], string> & {font: string, mono: string}} Colours */

/** Resolve every token once; light-dark() is only known to a computed style. @returns {Colours} */
export function readColours() {
  const probe = document.createElement("span");
  document.body.append(probe);
  /** @type {Record<string, string>} */
  const colours = {};
  for (const token of TOKENS) {
    probe.style.color = `var(--${token})`;
    colours[token] = getComputedStyle(probe).color;
  }
  probe.remove();
  const root = getComputedStyle(document.documentElement);
  colours.font = root.getPropertyValue("--sans").trim();
  colours.mono = root.getPropertyValue("--mono").trim();
  return /** @type {Colours} */ (colours);
}

/** Red, green, blue and alpha (0 to 1) of a computed colour. @param {string} colour */
export function channels(colour) {
  const found = (colour.match(/[\d.]+/g) ?? []).map(Number);
  return { red: found[0] ?? 0, green: found[1] ?? 0, blue: found[2] ?? 0, alpha: found[3] ?? 1 };
}

/** The same colour, see-through. @param {string} colour @param {number} alpha */
export function veil(colour, alpha) {
  const { red, green, blue } = channels(colour);
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

/** Width of the label column left of every plot, as the stylesheet says. */
export function gutter() {
  return parseFloat(getComputedStyle(document.body).getPropertyValue("--gutter")) || 148;
}

export class Sheet {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    host.append(this.canvas);
    const context = this.canvas.getContext("2d");
    if (!context) throw new Error("this browser draws no canvas");
    this.context = context;
    this.width = 0;
    this.height = 0;
    this.ratio = 1;
  }

  /** Fit the backing store to the element and start from nothing. */
  begin() {
    this.ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    this.width = this.host.clientWidth;
    this.height = this.host.clientHeight;
    const wide = Math.round(this.width * this.ratio);
    const high = Math.round(this.height * this.ratio);
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    return this.context;
  }
}

/**
 * A straight line, crisp on whole pixels.
 * @param {CanvasRenderingContext2D} context @param {string} colour
 * @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1
 * @param {number[]} [dash] @param {number} [thickness]
 */
export function rule(context, colour, x0, y0, x1, y1, dash = [], thickness = 1) {
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
  context.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.stroke();
  context.setLineDash([]);
}
