import { expect, test } from 'vitest';
import { cleanLine, cleanLines, jsonLine } from '../../src/parser/clean-text.ts';
import type { StaleReason } from '../../src/runtime/events.ts';
import { reasonInWords } from '../../src/tui/reason.ts';
import { addTo, emptySeries, sparkline } from '../../src/tui/series.ts';
import { duration, size } from '../../src/tui/units.ts';

test('every reason has words', () => {
  const reasons: StaleReason[] = [
    { kind: 'never-built' },
    { kind: 'input-changed', input: 'hero:manifest' },
    { kind: 'input-will-change', input: 'raw' },
    { kind: 'attribute-changed', attribute: 'thr', from: '-3.55', to: '-3' },
    { kind: 'revision-changed', stage: 'resize' },
    { kind: 'result-lost', output: 'lora' },
    { kind: 'not-placed', path: 'hero.safetensors' },
    { kind: 'asked-for' },
  ];
  expect(reasons.map(reasonInWords)).toMatchInlineSnapshot(`
    [
      "not built yet",
      "hero:manifest changed",
      "raw runs first",
      "thr was -3.55, now -3",
      "this version of lorac computes resize differently",
      "its stored result "lora" is gone",
      "its file is not in place",
      "asked for",
    ]
  `);
});

test('control characters never reach the terminal', () => {
  expect(cleanLine('a\u001b[2Jb\u001b]0;title\u0007c\u009b31md\u202ee\tf\u0000')).toBe('abcde f');
  expect(cleanLines('10 %\r20 %\r\nnext')).toEqual(['20 %', 'next']);
  expect(jsonLine({ text: '\u001b\u009b\u202e' })).toBe('{"text":"\\u001b\\u009b\\u202e"}');
  expect(cleanLine('naïve 日本語 🦊')).toBe('naïve 日本語 🦊');
});

test('durations and sizes read like prose', () => {
  expect([40, 340, 9_949, 9_960, 59_600, 151_000, 4_330_000].map(duration)).toEqual([
    '40 ms',
    '0.3 s',
    '9.9 s',
    '10 s',
    '1 min 0 s',
    '2 min 31 s',
    '1 h 12 min',
  ]);
  expect([0, 999, 1000, 36_200_000, 6.9e9].map(size)).toEqual(['0 B', '999 B', '1.0 kB', '36.2 MB', '6.9 GB']);
});

test('a sparkline shows the whole run, however long, and skips what is no number', () => {
  let series = emptySeries;
  for (let step = 0; step < 10_000; step++) series = addTo(series, 10_000 - step);
  expect(series.values.length).toBeLessThanOrEqual(256);
  expect(sparkline(series, 8)).toBe('█▇▆▅▄▃▂▁');
  expect(sparkline(addTo(emptySeries, Number.NaN), 8)).toBe('');
  expect(sparkline(addTo(addTo(emptySeries, 1), 1), 8)).toBe('▄▄');
});
