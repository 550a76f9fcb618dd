// What someone may have meant by a word that nothing is called.

import { distance } from 'fastest-levenshtein';

/** The word of the list that is nearest to `word`, when it is near enough to be a slip of the finger. */
export function nearest(word: string, list: Iterable<string>): string | undefined {
  const lower = word.toLowerCase();
  let best: string | undefined;
  // One slip in short words, two in longer ones, three in long ones. A swap of two letters counts as two.
  let limit = lower.length <= 3 ? 1 : lower.length <= 8 ? 2 : 3;
  for (const candidate of list) {
    const steps = distance(lower, candidate.toLowerCase());
    // In words of one or two letters, one slip can turn anything into anything.
    if (steps > limit || (lower.length <= 2 && steps > 0)) continue;
    if (best !== undefined && steps === limit) continue;
    best = candidate;
    limit = steps;
  }
  return best;
}
