// @ts-check
/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { clamp, readAddress, writeAddress, zoom } from "../../service/foreshock_service/web/static/view.js";

Deno.test("a window past the end is moved back without changing its size", () => {
  assert.deepEqual(clamp({ x0: 90, x1: 130, y0: -5, y1: 15 }, 100, 20), { x0: 60, x1: 100, y0: 0, y1: 20 });
});

Deno.test("a zoom leaves the point under the pointer where it is", () => {
  const view = { x0: 0, x1: 100, y0: 0, y1: 20 };
  const near = zoom(view, 0.5, { ord: 25, row: 3 }, { x: true, y: false });
  assert.deepEqual(near, { x0: 12.5, x1: 62.5, y0: 0, y1: 20 });
});

Deno.test("an address reads back as it was written", () => {
  const shared = /** @type {import("../../service/foreshock_service/web/static/view.js").Shared} */ ({
    view: { x0: 1, x1: 50.5, y0: 0, y1: 8 },
    cell: { ord: 7, row: 2 },
    incident: 3,
    kind: "gradient",
    statistic: "rms",
    mode: "absolute",
  });
  assert.deepEqual(readAddress(writeAddress(shared)), shared);
});

Deno.test("what is not well formed in an address is the page's own choice", () => {
  const read = readAddress("?view=1,2,three,4&cell=,&incident=NaN&mode=sideways");
  assert.deepEqual([read.view, read.cell, read.incident, read.mode], [null, null, null, null]);
});
