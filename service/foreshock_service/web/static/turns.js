// @ts-check
/** One piece of work at a time. No DOM here. */

/**
 * A function that does `work` now, or once more after the one under way: however often it is called
 * meanwhile, one is under way and at most one waits.
 * @param {() => Promise<void>} work
 * @param {() => Promise<void>} rest awaited after each, so that a busy run is not asked without end
 * @returns {() => Promise<void>} settles when nothing waits any more
 */
export function inTurn(work, rest) {
  let again = false;
  /** @type {Promise<void> | null} */
  let underWay = null;
  const loop = async () => {
    do {
      again = false;
      await work();
      await rest();
    } while (again);
  };
  return () => {
    again = underWay !== null;
    underWay ??= loop().finally(() => underWay = null);
    return underWay;
  };
}
