// npm run fuzz: random programs against what has to hold for every text. Ends with 1 at the first that breaks a claim, and
// prints that program as small as it could be made.

import { parseArgs } from 'node:util';
import { holdClaims } from '../test/parser/fuzz/claims.ts';
import { knownPrograms, randomFrom, randomProgram } from '../test/parser/fuzz/edits.ts';

const usage = `npm run fuzz -- [--count N] [--minutes N] [--seed N]

  --count N     so many programs (default: 1000000)
  --minutes N   or as many as there is time for
  --seed N      the same ones as another time, in the same order (default: by the clock)
`;

const { count, minutes, seed } = readArguments();
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

function readArguments(): { readonly count: number; readonly minutes: number; readonly seed: number } {
  const text = { type: 'string' } as const;
  const options = { count: text, minutes: text, seed: text, help: { type: 'boolean' } } as const;
  // Unknown options stand among the values, and those without their number are `true`. The first positional is the script.
  const { values, positionals } = parseArgs({ options, strict: false });
  const [count, minutes, seed] = [
    values.count ?? 1_000_000,
    values.minutes ?? Infinity,
    values.seed ?? Date.now() % 1e6,
  ];
  const isKnown = Object.keys(values).every((name) => Object.hasOwn(options, name)) && positionals.length < 2;
  const isGood = isKnown && [count, minutes, seed].every((value) => value !== true && Number(value) >= 0);
  if (values.help || !isGood) {
    (isGood ? process.stdout : process.stderr).write(usage);
    process.exit(isGood ? 0 : 2);
  }
  return { count: Number(count), minutes: Number(minutes), seed: Number(seed) };
}
