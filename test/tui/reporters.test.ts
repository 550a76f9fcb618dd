import { afterEach, expect, test, vi } from 'vitest';
import type { RunEvent } from '../../src/runtime/events.ts';
import { jsonReporter } from '../../src/tui/json-reporter.ts';
import { plainReporter } from '../../src/tui/plain-reporter.ts';
import { chooseReporter, type Reporter, type ReporterOptions } from '../../src/tui/reporter.ts';
import { terminalReporter } from '../../src/tui/terminal-reporter.ts';
import { done, failed, longSteps, nothing, type Timed, training } from './streams.ts';

afterEach(() => vi.useRealTimers());

/** Plays events at their times, and returns what was written. */
async function play(events: readonly Timed[], open: (options: ReporterOptions) => Reporter): Promise<string> {
  const written: string[] = [];
  let nowMs = 0;
  const stdout = { write: (text: string) => written.push(text) > 0 } as unknown as NodeJS.WriteStream;
  const reporter = open({ stdout, folder: '/home/me/hero', now: () => nowMs, color: false });
  for (const [atMs, event] of events) {
    nowMs = atMs;
    reporter.listen(event);
  }
  await reporter.close();
  return written.join('');
}

test('the plain reporter tells a whole build', async () => {
  expect(await play(done, plainReporter)).toMatchSnapshot();
});

test('the plain reporter tells steps, and nothing from within them', async () => {
  expect(await play(longSteps, plainReporter)).toBe(await play(training, plainReporter));
});

test('the plain reporter tells a failure with its files, hint, place and log', async () => {
  expect(await play(failed, plainReporter)).toMatchSnapshot();
});

test('the JSON reporter writes every event on one line, and ends with the documented one', async () => {
  const lines = (await play(failed, jsonReporter)).trimEnd().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as RunEvent).type)).toEqual(failed.map(([, event]) => event.type));
  expect(lines.at(-1)).toBe(
    '{"type":"finished","ok":false,"computed":[],"fresh":["pony"],"failed":["hero:manifest"],' +
      '"skipped":["raw:latents","raw","raw:decompose","small","tiny","hero.safetensors"],"elapsedMs":420,"interrupted":false}',
  );
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
  expect(lines.join('')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
});

test('on a terminal a build with nothing to do says so in one line', async () => {
  expect(await play(nothing, terminalReporter)).toBe('Nothing to do: 8 stages fresh, in 60 ms.\n');
});

test('on a terminal a build that is over at once is told without Ink, in full', async () => {
  const told = await play(failed, terminalReporter);
  expect(told).toContain('✗ hero:manifest     failed    after 0.4 s\n  2 images of "hero" cannot be read.\n');
  expect(told).toContain('Failed after 0.4 s: 1 fresh, 1 failed, 6 skipped.\n');
});

test('Ink is for terminals that a person looks at', () => {
  expect(chooseReporter({ isTTY: true }, {})).toBe('ink');
  expect(chooseReporter({ isTTY: true }, { CI: 'false' })).toBe('ink');
  expect(chooseReporter({ isTTY: true }, { CI: 'true' })).toBe('plain');
  expect(chooseReporter({ isTTY: true }, { TERM: 'dumb' })).toBe('plain');
  expect(chooseReporter({}, {})).toBe('plain');
});
