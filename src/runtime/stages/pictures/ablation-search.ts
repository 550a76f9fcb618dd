// The shortest beginning of a ranking that keeps a wanted share of the effect: doubled until the share is reached, then
// halved in between. Every length is looked at once. Pictures need not become more alike with every block, so a shorter
// one that was skipped may do as well; the one that is found has been seen to do.

export interface Search {
  readonly count: number;
  readonly wanted: number;
  /** The share that the first so many keep. Asked at most once for each length. */
  readonly shareOf: (length: number) => Promise<number> | number;
}

/** How many to keep, from 1 to `count`; all of them always do. */
export async function shortestPrefix({ count, wanted, shareOf }: Search): Promise<number> {
  const isEnough = async (length: number): Promise<boolean> => length === count || (await shareOf(length)) >= wanted;
  let tooFew = 0;
  let enough = 1;
  while (!(await isEnough(enough))) {
    tooFew = enough;
    enough = Math.min(2 * enough, count);
  }
  while (enough - tooFew > 1) {
    const middle = Math.floor((tooFew + enough) / 2);
    if (await isEnough(middle)) enough = middle;
    else tooFew = middle;
  }
  return enough;
}

/** How many of the lengths that `costs` something a search has to look at when it is unlucky. */
export async function worstCost(count: number, costs: (length: number) => boolean): Promise<number> {
  let worst = 0;
  for (let answer = 1; answer <= count; answer += 1) {
    let cost = 0;
    const shareOf = (length: number): number => {
      if (costs(length)) cost += 1;
      return length >= answer ? 1 : 0;
    };
    await shortestPrefix({ count, wanted: 1, shareOf });
    worst = Math.max(worst, cost);
  }
  return worst;
}
