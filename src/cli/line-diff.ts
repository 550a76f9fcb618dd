// What changes between two texts, line by line, as `diff -u` shows it.

/** Lines around a change that stay as they are. */
const around = 2;
/** Beyond as many pairs of lines, what differs is shown as one piece. */
const mostPairs = 4_000_000;

interface Line {
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

/** Lines that begin with " ", "-" or "+", in pieces that begin with "@@"; none where nothing differs. */
export function lineDiff(before: string, after: string): string[] {
  const [one = [], other = []] = [before, after].map((text) => text.replace(/\n$/, '').split('\n'));
  const lines = compare(one, other);
  const isShown = lines.map((_, index) =>
    lines.slice(Math.max(0, index - around), index + around + 1).some(({ mark }) => mark !== ' '),
  );
  const [at, shown] = [{ before: 1, after: 1 }, [] as string[]];
  lines.forEach(({ mark, text }, index) => {
    if (isShown[index] && !isShown[index - 1]) shown.push(`@@ -${at.before} +${at.after} @@`);
    if (isShown[index]) shown.push(`${mark}${text}`);
    if (mark !== '+') at.before += 1;
    if (mark !== '-') at.after += 1;
  });
  return shown;
}

function compare(before: readonly string[], after: readonly string[]): Line[] {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let tail = 0;
  const room = Math.min(before.length, after.length) - start;
  while (tail < room && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  return [
    ...before.slice(0, start).map(kept),
    ...middle(before.slice(start, before.length - tail), after.slice(start, after.length - tail)),
    ...before.slice(before.length - tail).map(kept),
  ];
}

const kept = (text: string): Line => ({ mark: ' ', text });
const removed = (text: string): Line => ({ mark: '-', text });
const added = (text: string): Line => ({ mark: '+', text });

/** By the longest common subsequence, from a table of its lengths for all ends of both. */
function middle(before: readonly string[], after: readonly string[]): Line[] {
  if (before.length * after.length > mostPairs) return [...before.map(removed), ...after.map(added)];
  const width = after.length + 1;
  const lengths = new Uint32Array((before.length + 1) * width);
  const lengthAt = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      const isSame = before[i] === after[j];
      lengths[i * width + j] = isSame ? lengthAt(i + 1, j + 1) + 1 : Math.max(lengthAt(i + 1, j), lengthAt(i, j + 1));
    }
  }
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      lines.push(kept(before[i] as string));
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && lengthAt(i + 1, j) >= lengthAt(i, j + 1))) {
      lines.push(removed(before[i++] as string));
    } else {
      lines.push(added(after[j++] as string));
    }
  }
  return lines;
}
