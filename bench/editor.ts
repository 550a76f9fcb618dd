// npm run bench:editor — how long an editor waits.
//
// A server is started as an editor starts it, a program is opened, and then one letter after the other is typed into
// it. Measured, from the moment the edit is sent, over the server's own pipes:
// - diagnostics: until those of that very version arrive, the server's pause included;
// - completion: until the answer to a request arrives that is sent right behind the edit, so that nothing is known yet.
//
// To be met on a CPU of 2 cores: 20 ms each at 300 lines, 300 ms at 10,000 lines (medians; the slowest tenth is told).

import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Editor, type OpenText, openEditor } from '../test/language-server/editor.ts';
import { manyLines } from '../test/language-server/program.ts';

const cases = [
  { lines: 300, rounds: 60, limitMs: 20 },
  { lines: 10_000, rounds: 20, limitMs: 300 },
];
/** So many edits go by before the first counts: what is compiled while it runs is not what one waits for all day. */
const WARM_UP = 15;

const folder = await mkdtemp(join(tmpdir(), 'lorac-bench-'));
try {
  const load = loadavg()[0]?.toFixed(1);
  console.log(
    `Node ${process.versions.node}; ${cpus()[0]?.model}, ${cpus().length} cores, a load of ${load} from other work`,
  );
  let isMet = true;
  for (const { lines, rounds, limitMs } of cases) {
    await using editor = await openEditor(folder);
    const text = editor.open(`lines-${lines}.lora`, manyLines(lines));
    await text.diagnostics();
    const count = text.text.split('\n').length;
    for (const [name, measure] of [
      ['diagnostics', diagnosticsAfterEdit],
      ['completion', completionAfterEdit],
    ] as const) {
      const times: number[] = [];
      for (let round = 0; round < WARM_UP + rounds; round += 1) {
        const ms = await measure(editor, text, round);
        if (round >= WARM_UP) times.push(ms);
      }
      isMet = report(`${name}, ${count} lines`, times, limitMs) && isMet;
    }
  }
  if (!isMet) process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** In the middle of the file, in a comment: the program stays right, and all of it is checked again. */
function typeOneLetter(text: OpenText, round: number): number {
  const lines = text.text.split('\n');
  const line = lines.findIndex((one, index) => index >= lines.length / 2 && one.startsWith('# '));
  const place = { line, character: 2 };
  return text.edit({ start: place, end: place }, 'abcdefghij'[round % 10] as string);
}

async function diagnosticsAfterEdit(_editor: Editor, text: OpenText, round: number): Promise<number> {
  const started = performance.now();
  await text.diagnostics(typeOneLetter(text, round));
  return performance.now() - started;
}

async function completionAfterEdit({ connection }: Editor, text: OpenText, round: number): Promise<number> {
  const lines = text.text.split('\n');
  const line = lines.findIndex((one, index) => index >= lines.length / 2 && one.startsWith('  save_every'));
  const started = performance.now();
  const version = typeOneLetter(text, round);
  const items = await connection.sendRequest<unknown[]>('textDocument/completion', {
    textDocument: { uri: text.uri },
    position: { line, character: 2 },
  });
  const ms = performance.now() - started;
  if (items.length < 10) throw new Error('The completion has nothing to propose.');
  await text.diagnostics(version);
  return ms;
}

/** Says whether the limit is met. */
function report(name: string, times: number[], limitMs: number): boolean {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const isMet = at(0.5) <= limitMs;
  const numbers = `median ${at(0.5).toFixed(1)} ms, nine in ten below ${at(0.9).toFixed(1)} ms, lowest ${at(0).toFixed(1)} ms`;
  console.log(`${name.padEnd(28)} ${numbers}  (limit ${limitMs} ms: ${isMet ? 'met' : 'NOT MET'})`);
  return isMet;
}
