// npm run fuzz: random programs against what has to hold for every text. `--count N` of them (default: a million), or as
// many as `--minutes N` allow; `--seed N` begins with the same ones again. Ends with 1 at the first that breaks a claim,
// and prints that program as small as it could be made.

import { parseArgs } from 'node:util';
import { holdClaims } from '../test/parser/fuzz/claims.ts';
import { knownPrograms, randomFrom, randomProgram } from '../test/parser/fuzz/edits.ts';

const { values } = parseArgs({
  args: process.argv.slice(2).filter((arg) => arg !== 'fuzz'),
  options: {
    count: { type: 'string', default: '1000000' },
    minutes: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    keepGoing: { type: 'boolean', default: false },
  },
});

const [count, minutes, seed] = [Number(values.count), Number(values.minutes), Number(values.seed)];
const programs = knownPrograms();
const random = randomFrom(seed);
const started = performance.now();
let slowestMs = 0;
let done = 0;
process.stdout.write(`seed ${seed}, ${programs.length} programs to edit\n`);

while (done < count && performance.now() - started < minutes * 60_000) {
  const text = randomProgram(programs, random);
  const start = performance.now();
  const failure = failureOf(text);
  slowestMs = Math.max(slowestMs, performance.now() - start);
  done += 1;
  if (failure !== undefined) {
    const small = shrunk(text, failure);
    process.stdout.write(`\nprogram ${done} of seed ${seed}:\n${JSON.stringify(small)}\n${failureOf(small)?.stack}\n`);
    process.exit(1);
  }
  if (done % 20_000 === 0) tell();
}
tell();

function tell(): void {
  const seconds = (performance.now() - started) / 1000;
  process.stdout.write(`${done} programs in ${seconds.toFixed(0)} s, the slowest took ${slowestMs.toFixed(0)} ms\n`);
}

function failureOf(text: string): Error | undefined {
  try {
    holdClaims(text);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Pieces are left out, smaller and smaller ones, as long as the same thing goes wrong. */
function shrunk(text: string, failure: Error): string {
  const kind = (error: Error | undefined) => error?.message.split('\n')[0];
  let small = text;
  for (let size = Math.ceil(text.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < small.length; ) {
      const less = small.slice(0, at) + small.slice(at + size);
      if (less !== small && kind(failureOf(less)) === kind(failure)) small = less;
      else at += size;
    }
  }
  return small;
}
