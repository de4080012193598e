// @ts-check
/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { decadesOf, decode, exponentOf, INF, NAN } from "../../service/foreshock_service/web/static/codes.js";
import { paint } from "../../service/foreshock_service/web/static/pool.js";

/** @param {object} header @param {Uint8Array} body */
function message(header, body) {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(body, 8 + text.length);
  return bytes.buffer;
}

Deno.test("an answer gives its arrays back, 64-bit counts as numbers", () => {
  const body = new Uint8Array(new BigInt64Array([5n, -1n]).buffer);
  const { header, arrays } = decode(
    message({ to: 9, arrays: [{ name: "ords", dtype: "<i8", shape: [2] }] }, body),
  );
  assert.equal(header.to, 9);
  assert.deepEqual([...arrays.ords ?? []], [5, -1]);
});

Deno.test("an array of an unknown type is an error that names it", () => {
  const strange = message({ arrays: [{ name: "x", dtype: "<c16", shape: [1] }] }, new Uint8Array(16));
  assert.throws(() => decode(strange), /array x: unknown type <c16/);
});

Deno.test("codes stand for exponents, for decades either way, and for what is not finite", () => {
  assert.equal(exponentOf(1, -6, 4), -6);
  assert.equal(exponentOf(65000, -6, 4), 4);
  assert.equal(exponentOf(INF, -6, 4), Infinity);
  assert.equal(decadesOf(1 + (200 << 1), 100), 2);
  assert.equal(decadesOf(1 + (200 << 1 | 1), 100), -2);
  assert.ok(Number.isNaN(decadesOf(NAN, 100)));
});

Deno.test("one NaN among ten thousand cells survives being pooled into one pixel", () => {
  const codes = new Uint16Array(100 * 100).fill(7);
  codes[5050] = NAN;
  const table = new Uint32Array(65536);
  table[7] = 1;
  table[NAN] = 2;
  const image = new Uint32Array(1);
  const grid = { codes, rows: 100, columns: 100, from: 0, to: 100 };
  paint(image, 1, 1, grid, { x0: 0, x1: 100, y0: 0, y1: 100 }, table);
  assert.deepEqual([...image], [2]);
});
