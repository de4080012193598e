// @ts-check
/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { inTurn } from "../../service/foreshock_service/web/static/turns.js";

const rest = () => Promise.resolve();

Deno.test("a burst of calls is the work under way and one more, never two at once", async () => {
  let [underWay, most, done] = [0, 0, 0];
  const ask = inTurn(async () => {
    most = Math.max(most, ++underWay);
    await rest();
    underWay--;
    done++;
  }, rest);
  await Promise.all(Array.from({ length: 20 }, ask));
  assert.deepEqual([most, done], [1, 2]);
});

Deno.test("after the work a call begins anew, also after it failed", async () => {
  let calls = 0;
  const ask = inTurn(() => ++calls === 1 ? Promise.reject(new Error("away")) : rest(), rest);
  await assert.rejects(ask(), /away/);
  await ask();
  assert.equal(calls, 2);
});
