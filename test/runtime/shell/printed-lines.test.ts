import { expect, test } from 'vitest';
import { PrintedLines } from '../../../src/runtime/shell/printed-lines.ts';

test('letters and lines that come in pieces are put together, each stream by itself', () => {
  const heard: string[] = [];
  const printed = new PrintedLines((line) => heard.push(line));
  const [one, two] = [printed.stream(), printed.stream()];
  const bytes = Buffer.from('käse\r\n');
  for (const byte of bytes) one.push(Buffer.from([byte]));
  one.push(Buffer.from('half of '));
  two.push(Buffer.from('another\n'));
  one.push(Buffer.from('a line'));
  for (const stream of [one, two]) stream.end();
  expect(heard).toEqual(['käse', 'another', 'half of a line']);
  expect(printed.tail).toEqual(heard);
});

test('a line without an end is cut, and nothing is held', () => {
  const printed = new PrintedLines();
  const stream = printed.stream();
  for (let round = 0; round < 100; round += 1) stream.push(Buffer.alloc(1_000, 'x'));
  stream.end();
  expect(printed.tail.length).toBeGreaterThan(5);
  for (const line of printed.tail) expect(line.length).toBeLessThanOrEqual(400);
});
