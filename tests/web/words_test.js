// @ts-check
/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { factor, logTicks, measure, roundUp } from "../../service/foreshock_service/web/static/numbers.js";
import { laneWords } from "../../service/foreshock_service/web/static/words.js";

Deno.test("numbers keep three digits and say what is not a number", () => {
  assert.deepEqual(
    [0, 3.14159, -12345, 1.5e9, NaN, -Infinity, null].map(measure),
    ["0", "3.14", "−12300", "1.50e9", "NaN", "−inf", "–"],
  );
});

Deno.test("a factor below one is a fraction", () => {
  assert.deepEqual([3, -1, 0, 6].map(factor), ["1,000×", "1/10×", "1.0×", "10^6.0×"]);
});

Deno.test("round numbers are 1, 2 or 5 times a power of ten", () => {
  assert.deepEqual([0.7, 1, 1.2, 3, 60].map(roundUp), [1, 1, 2, 5, 100]);
});

Deno.test("a long logarithmic axis has no more ticks than there is room for", () => {
  assert.ok(logTicks(-8, 8, 4).length <= 5);
});

Deno.test("the lane says its incidents with their lead, restarts and checkpoints", () => {
  const incident = /** @type {any} */ ({ number: 2, onset: 1420, loss: 1456 });
  const events = [{ kind: "checkpoint", step: 100, label: "checkpoint" }];
  const restarts = [{ ord: 80, step: 40 }];
  assert.equal(
    laneWords({ incidents: [incident], events, restarts }),
    "Along the run: incident 2 at step 1,420, 36-step lead; restart at step 40; 1 checkpoint",
  );
  assert.equal(laneWords({ incidents: [], events: [], restarts: [] }), "Along the run: nothing happened");
});
