import { expect, test } from 'vitest';
import { failureLines, rowText, summaryLines } from '../../src/tui/lines.ts';
import { done, training, viewOf } from './streams.ts';

test('a node that was stopped on request is no failure, and the summary says that nothing is lost', () => {
  const view = viewOf([
    ...training,
    [63_000, { type: 'stopping', message: 'Stopping. What is done so far is being saved.' }],
    [
      64_000,
      {
        type: 'node-failed',
        node: 'raw',
        failure: { kind: 'cancelled', message: 'Stopped.', hint: undefined, problems: [], logTail: [] },
        origin: { path: 'hero.lora', line: 3, column: 1 },
      },
    ],
    [
      64_100,
      {
        type: 'finished',
        ok: false,
        interrupted: true,
        computed: ['hero:manifest', 'raw:latents'],
        fresh: ['pony'],
        failed: [],
        skipped: [],
        elapsedMs: 64_100,
      },
    ],
  ]);
  const raw = view.rows.find(({ name }) => name === 'raw');
  expect(raw && rowText(raw, 4)).toBe('! raw   stopped   after 42 s');
  expect(summaryLines(view)[0]?.text).toBe(
    'Stopped after 1 min 4 s: 2 computed, 1 fresh. What is done is kept, and the next build goes on from there.',
  );
});

test('a problem that the message has told already is not told again', () => {
  const view = viewOf([
    ...done.slice(0, 2),
    [
      400,
      {
        type: 'node-failed',
        node: 'hero:manifest',
        failure: {
          kind: 'bad-input',
          message: 'The dataset cannot be used: images: There is no such folder.',
          hint: undefined,
          problems: [{ path: 'images', message: 'There is no such folder.' }],
          logTail: [],
        },
        origin: { path: 'hero.lora', line: 2, column: 1 },
      },
    ],
  ]);
  const row = view.rows.find(({ name }) => name === 'hero:manifest');
  expect(row && failureLines(row).map(({ text }) => text)).toEqual([
    'The dataset cannot be used: images: There is no such folder.',
    'asked for at hero.lora:2:1',
  ]);
});
