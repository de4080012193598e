// @ts-check
/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { Clock, restartsOf } from "../../service/foreshock_service/web/static/clock.js";

/** Steps 0 to 79, then once more from 40 on. */
const ords = Array.from({ length: 120 }, (_, ord) => ord);
const steps = ords.map((ord) => (ord < 80 ? ord : ord - 40));
const resumed = new Clock(ords, steps, 120);

Deno.test("a step that was passed twice is the later frame, or the earlier one before a given ord", () => {
  assert.equal(resumed.ordOf(50), 90);
  assert.equal(resumed.ordOf(50, 79), 50);
});

Deno.test("steps inside a wide column are interpolated", () => {
  const coarse = new Clock([0, 16, 32], [0, 16, 32], 40);
  assert.equal(coarse.stepAt(24), 24);
  assert.equal(coarse.stepAt(39), 39);
  assert.equal(coarse.ordOf(20), 20);
});

Deno.test("a restart is where the attempt changes", () => {
  assert.deepEqual(restartsOf(resumed, ords.map((ord) => (ord < 80 ? 1 : 2))), [{ ord: 80, step: 40 }]);
  assert.deepEqual(restartsOf(resumed, ords.map(() => 1)), []);
  assert.deepEqual(restartsOf(new Clock([], [], 0), []), []);
});

Deno.test("ticks are round steps, far enough apart", () => {
  const ticks = new Clock(ords, ords, 120).ticks(0, 120, 0.2);
  assert.deepEqual(ticks.map(({ step }) => step), [0, 50, 100]);
});
