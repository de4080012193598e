// @ts-check
/**
 * Binary answers: u64 header length, JSON header, little-endian arrays. And the 16-bit codes of a
 * heatmap, ordered missing < finite < Inf < NaN so that a maximum never hides a NaN. No DOM here.
 */

export const MISSING = 0;
export const LARGEST = 65000;
export const INF = 65534;
export const NAN = 65535;

/** @typedef {Float64Array | Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array} Numbers */
/** @typedef {{name: string, dtype: string, shape: number[]}} ArrayHeader */
/** @typedef {{header: Record<string, any>, arrays: Record<string, Numbers>}} Answer */

/** @type {Record<string, {bytes: number, read: (buffer: ArrayBuffer) => Numbers}>} */
const TYPES = {
  f8: { bytes: 8, read: (buffer) => new Float64Array(buffer) },
  f4: { bytes: 4, read: (buffer) => new Float32Array(buffer) },
  i8: { bytes: 8, read: (buffer) => Float64Array.from(new BigInt64Array(buffer), Number) },
  i4: { bytes: 4, read: (buffer) => new Int32Array(buffer) },
  u4: { bytes: 4, read: (buffer) => new Uint32Array(buffer) },
  u2: { bytes: 2, read: (buffer) => new Uint16Array(buffer) },
  u1: { bytes: 1, read: (buffer) => new Uint8Array(buffer) },
};

/**
 * Read one binary answer.
 * @param {ArrayBuffer} buffer
 * @returns {Answer}
 */
export function decode(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  /** @type {Record<string, Numbers>} */
  const arrays = {};
  let offset = 8 + length;
  for (const { name, dtype, shape } of /** @type {ArrayHeader[]} */ (header.arrays)) {
    const type = TYPES[dtype.replace(/^[<|]/, "")];
    if (!type) throw new Error(`array ${name}: unknown type ${dtype}`);
    const bytes = shape.reduce((product, n) => product * n, 1) * type.bytes;
    arrays[name] = type.read(buffer.slice(offset, offset + bytes));
    offset += bytes;
  }
  return { header, arrays };
}

/**
 * log10 of the value behind an absolute code.
 * @param {number} code @param {number} low @param {number} high
 */
export function exponentOf(code, low, high) {
  if (code === NAN) return NaN;
  if (code === INF) return Infinity;
  return low + ((code - 1) * (high - low)) / (LARGEST - 1);
}

/**
 * Decades off the baseline behind a deviation code: the size in the high bits, in the lowest one
 * whether the value is below.
 * @param {number} code @param {number} scale codes a decade
 */
export function decadesOf(code, scale) {
  if (code === NAN) return NaN;
  if (code === INF) return Infinity;
  const size = ((code - 1) >> 1) / scale;
  return (code - 1) & 1 ? -size : size;
}
