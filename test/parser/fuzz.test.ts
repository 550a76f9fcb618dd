// A little of what `npm run fuzz` does at length.

import { expect, test } from 'vitest';
import { holdClaims } from './fuzz/claims.ts';
import { knownPrograms, randomFrom, randomProgram } from './fuzz/edits.ts';

test.each([1, 2, 3])('random edits of seed %d break no claim', (seed) => {
  const [programs, random] = [knownPrograms(), randomFrom(seed)];
  for (let count = 0; count < 1500; count += 1) {
    const text = randomProgram(programs, random);
    expect(() => holdClaims(text), JSON.stringify(text)).not.toThrow();
  }
});
