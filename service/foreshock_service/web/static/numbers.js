// @ts-check
/** How numbers are written, and where an axis puts its ticks. No DOM here. */

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** A count or a step: 12,345. @param {number} value */
export function whole(value) {
  return WHOLE.format(value);
}

/** A measured value with three digits; what is not a number says so. @param {number | null | undefined} value */
export function measure(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    return value.toExponential(2).replace("e+", "e").replace(/-/g, "−");
  }
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/**
 * How far off the baseline, as a factor: 144×, 1/20×.
 * @param {number} decades log10 of value over baseline
 */
export function factor(decades) {
  if (Number.isNaN(decades)) return "NaN";
  if (!Number.isFinite(decades)) return "inf";
  const size = 10 ** Math.abs(decades);
  const text = size < 10 ? size.toFixed(1) : size < 1e4 ? whole(size) : `10^${Math.abs(decades).toFixed(1)}`;
  return decades < 0 && text !== "1.0" ? `1/${text}×` : `${text}×`;
}

/**
 * A round number not below `least`: 1, 2 or 5 times a power of ten.
 * @param {number} least
 */
export function roundUp(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-300)));
  const unit = [1, 2, 5, 10].find((k) => k * power >= least * (1 - 1e-9)) ?? 10;
  return unit * power;
}

/**
 * Ticks of a logarithmic axis between two exponents of ten, with about `room` of them.
 * @param {number} low @param {number} high @param {number} room
 * @returns {{at: number, text: string}[]} `at` is the exponent
 */
export function logTicks(low, high, room) {
  const span = high - low;
  /** @type {number[]} */
  let digits = [1];
  if (span < 0.6) digits = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
  else if (span < 2) digits = [1, 2, 5];
  const stride = digits.length > 1 ? 1 : Math.max(1, Math.ceil(span / Math.max(room, 1)));
  /** @type {{at: number, text: string}[]} */
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    if (power % stride !== 0) continue;
    for (const digit of digits) {
      const at = power + Math.log10(digit);
      if (at >= low && at <= high) ticks.push({ at, text: tickText(digit, power) });
    }
  }
  return ticks;
}

/** @param {number} digit @param {number} power */
function tickText(digit, power) {
  if (power >= -2 && power <= 4) return String(Number((digit * 10 ** power).toPrecision(3)));
  return digit === 1 ? `1e${power}` : `${digit}e${power}`;
}

/**
 * Ticks of a linear axis. @param {number} low @param {number} high @param {number} room
 * @returns {{at: number, text: string}[]}
 */
export function linearTicks(low, high, room) {
  const stride = roundUp((high - low) / Math.max(room, 1));
  /** @type {{at: number, text: string}[]} */
  const ticks = [];
  for (let k = Math.ceil(low / stride); k * stride <= high; k++) {
    ticks.push({ at: k * stride, text: measure(k * stride) });
  }
  return ticks;
}
