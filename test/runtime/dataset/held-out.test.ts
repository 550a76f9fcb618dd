// Which images a training does not learn from: decided by what they are, and by nothing else.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { holdOut } from '../../../src/runtime/dataset/held-out.ts';

const images = fc.array(
  fc.integer({ min: 0, max: 30 }).map((number) => ({ digest: `${number}` })),
  { minLength: 2, maxLength: 40 },
);
const share = fc.double({ min: 0.01, max: 0.99, noNaN: true });
const different = (list: readonly { digest: string }[]) => new Set(list.map(({ digest }) => digest)).size;

test('every image is learned from or held out, equal ones together, and there are some of both', () => {
  fc.assert(
    fc.property(images, share, (list, part) => {
      fc.pre(different(list) > 1);
      const held = holdOut(list, part);
      const { learned = [], heldOut = [] } = held ?? {};
      expect([...learned, ...heldOut].sort((a, b) => a - b)).toEqual(list.map((_, place) => place));
      const digests = (places: readonly number[]) => new Set(places.map((place) => list[place]?.digest));
      expect([...digests(learned)].filter((digest) => digests(heldOut).has(digest))).toEqual([]);
      const wanted = Math.round(part * different(list));
      expect(digests(heldOut).size).toBe(Math.min(Math.max(wanted, 1), different(list) - 1));
    }),
  );
});

test('the order of the images means nothing', () => {
  fc.assert(
    fc.property(images, share, (list, part) => {
      fc.pre(different(list) > 1);
      const chosen = (of: typeof list) => new Set(holdOut(of, part)?.heldOut.map((place) => of[place]?.digest));
      expect(chosen(list.toReversed())).toEqual(chosen(list));
    }),
  );
});

test('of one image, however often it is there, none can be held out', () => {
  expect(holdOut([{ digest: 'a' }, { digest: 'a' }], 0.5)).toBeUndefined();
});
