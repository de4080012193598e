// @ts-check
/** Max-pooling a window of codes into pixels, so that a spike of one cell survives any zoom. No DOM. */

/**
 * A matrix of codes over ords [from, to), row-major.
 * @typedef {{codes: Uint16Array, rows: number, columns: number, from: number, to: number}} Grid
 * @typedef {{x0: number, x1: number, y0: number, y1: number}} View
 */

/**
 * For each pixel the half-open range of cells under it; a cell wider than a pixel covers several.
 * @param {number} pixels @param {number} first cell at the left edge, may be fractional
 * @param {number} last cell at the right edge @param {number} count cells there are
 */
function ranges(pixels, first, last, count) {
  const starts = new Int32Array(pixels);
  const ends = new Int32Array(pixels);
  const scale = (last - first) / pixels;
  for (let pixel = 0; pixel < pixels; pixel++) {
    const left = Math.floor(first + pixel * scale);
    const right = Math.max(left + 1, Math.floor(first + (pixel + 1) * scale));
    starts[pixel] = Math.max(0, Math.min(count, left));
    ends[pixel] = Math.max(0, Math.min(count, right));
  }
  return { starts, ends };
}

/**
 * Paint a grid through a colour table. Pixels that the grid does not cover are left alone, so that a
 * sharp window can be laid over a coarse one.
 * @param {Uint32Array} image @param {number} width @param {number} height pixels
 * @param {Grid} grid @param {View} view @param {Uint32Array} table colour of each code
 */
export function paint(image, width, height, grid, view, table) {
  const { codes, rows, columns } = grid;
  const perOrd = columns / (grid.to - grid.from);
  const across = ranges(width, (view.x0 - grid.from) * perOrd, (view.x1 - grid.from) * perOrd, columns);
  const down = ranges(height, view.y0, view.y1, rows);
  const line = new Uint16Array(columns);
  let before = -1;
  let beforeEnd = -1;
  for (let y = 0; y < height; y++) {
    const top = down.starts[y] ?? 0;
    const bottom = down.ends[y] ?? 0;
    if (bottom <= top) continue;
    if (top === before && bottom === beforeEnd) {
      image.copyWithin(y * width, (y - 1) * width, y * width);
      continue;
    }
    before = top;
    beforeEnd = bottom;
    line.set(codes.subarray(top * columns, (top + 1) * columns));
    for (let row = top + 1; row < bottom; row++) fold(line, codes, row * columns);
    for (let x = 0; x < width; x++) {
      const start = across.starts[x] ?? 0;
      const end = across.ends[x] ?? 0;
      if (end <= start) continue;
      let most = line[start] ?? 0;
      for (let cell = start + 1; cell < end; cell++) {
        const code = line[cell] ?? 0;
        if (code > most) most = code;
      }
      image[y * width + x] = table[most] ?? 0;
    }
  }
}

/**
 * Keep the larger of two rows, cell by cell. Without a branch: real data mispredicts it, and the
 * loop is then nearly three times slower.
 * @param {Uint16Array} line @param {Uint16Array} codes @param {number} offset
 */
function fold(line, codes, offset) {
  for (let cell = 0; cell < line.length; cell++) {
    const kept = /** @type {number} */ (line[cell]);
    const code = /** @type {number} */ (codes[offset + cell]);
    line[cell] = kept + ((code - kept) & ((kept - code) >> 31));
  }
}
