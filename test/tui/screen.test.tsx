import { renderToString } from 'ink';
import { render } from 'ink-testing-library';
import { describe, expect, test, vi } from 'vitest';
import type { RunEvent, StageProgress } from '../../src/runtime/events.ts';
import { App, Screen } from '../../src/tui/components/app.tsx';
import { ViewStore } from '../../src/tui/view-store.ts';
import { done, encoding, failed, longSteps, type Timed, training, viewOf } from './streams.ts';

function draw(events: readonly Timed[], columns: number, lines: number): string {
  const nowMs = events.at(-1)?.[0] ?? 0;
  return renderToString(
    <Screen view={viewOf(events)} nowMs={nowMs + 500} color={false} columns={columns} lines={lines} />,
    {
      columns,
    },
  );
}

describe.each([
  [80, 24],
  [120, 40],
])('at %i×%i', (columns, lines) => {
  test.each([
    ['while images are encoded', encoding],
    ['while training', training],
    ['within a long step', longSteps],
    ['after the end', done],
    ['after a failure', failed],
  ] as const)('%s', (_, events) => {
    const drawn = draw(events, columns, lines);
    expect(drawn).toMatchSnapshot();
    expect(Math.max(...drawn.split('\n').map((line) => line.length))).toBeLessThanOrEqual(columns);
  });
});

test('before the first step the micro-batches are told beside the steps', () => {
  const told = (progress: Omit<Extract<StageProgress, { type: 'progress' }>, 'type'>): Timed => [
    23_000,
    { type: 'node-progress', node: 'raw', progress: { type: 'progress', ...progress } },
  ];
  const started = training.findIndex(([, event]) => event.type === 'node-started' && event.node === 'raw');
  const first = [
    ...training.slice(0, started + 1),
    told({ done: 0, total: 60, unit: 'steps', note: 'step 1' }),
    told({ done: 2, total: 6, unit: 'micro-batches', note: 'step 1' }),
  ];
  expect(draw(first, 80, 24)).toContain('0/60 steps · step 1: micro-batch 3 of 6');
});

test('the line of micro-batches stays where it is when a step is done', () => {
  const step = training.at(-2)?.[1] as Extract<RunEvent, { type: 'node-progress' }>;
  const next = { ...step, progress: { ...step.progress, step: 35 } } as RunEvent;
  const line = (events: readonly Timed[]) =>
    draw(events, 80, 24)
      .split('\n')
      .findIndex((text) => text.includes('micro-batch '));
  expect(draw(longSteps, 80, 24)).toContain('step 35: micro-batch 4 of 6');
  expect(draw([...longSteps, [70_000, next]], 80, 24)).toContain('step 36: micro-batch 1 of 6');
  expect(line([...longSteps, [70_000, next]])).toBe(line(longSteps));
});

test('the live block stays lower than the terminal, and counts the rows it leaves out', () => {
  for (const lines of [24, 12, 8, 6, 3]) {
    const live = training.filter(([, event]) => event.type !== 'node-fresh' && event.type !== 'node-computed');
    expect(draw(live, 80, lines).split('\n').length, `of ${lines} lines`).toBeLessThan(lines);
  }
  expect(draw(training, 80, 10)).toContain('more waiting');
});

test('a narrow and low terminal is not outgrown by its footer', () => {
  const stopping: Timed = [30_000, { type: 'stopping', message: 'Stopping. What is done so far is being saved.' }];
  const ready: Timed = [9, { type: 'worker', status: 'ready', message: 'CPU, 2 threads, PyTorch 2.13.0+cpu' }];
  for (const lines of [12, 8, 6]) {
    const live = [...training.filter(([, event]) => event.type !== 'node-computed'), ready];
    const fresh = live.filter(([, event]) => event.type !== 'node-fresh');
    expect(draw(fresh, 40, lines).split('\n').length, `of ${lines} lines`).toBeLessThan(lines);
    const drawn = draw([...fresh, stopping], 40, lines);
    expect(drawn.split('\n').length, `of ${lines} lines, stopping`).toBeLessThan(lines);
    expect(drawn.replaceAll(/\s+/g, ' ')).toContain('Ctrl-C again ends it now.');
  }
});

test('without colour there is no escape sequence', () => {
  const view = viewOf(failed);
  const plain = renderToString(<Screen view={view} nowMs={500} color={false} columns={80} lines={24} />);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
  expect(plain).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
});

test('the app follows its store, and what is over stays above the live block', async () => {
  const store = new ViewStore(() => 30_000);
  const { lastFrame, unmount } = render(<App store={store} color={false} />);
  for (const [, event] of encoding) store.add(event);
  store.publish();
  await vi.waitFor(() => expect(lastFrame()).toMatch(/= pony .* fresh/));
  expect(lastFrame()).toMatch(/› raw:latents +running/);
  for (const [, event] of done.slice(encoding.length)) store.add(event);
  store.publish();
  await vi.waitFor(() => expect(lastFrame()).toContain('Done in'));
  const last = lastFrame() ?? '';
  expect(last.indexOf('+ raw:latents')).toBeGreaterThan(0);
  expect(last.indexOf('Done in')).toBeGreaterThan(last.indexOf('+ hero.safetensors'));
  unmount();
});

test('many events between two publications are drawn once', () => {
  const store = new ViewStore(() => 0);
  const seen: number[] = [];
  const stop = store.subscribe(() => seen.push(store.snapshot().view.rows.length));
  for (const [, event] of training) store.add(event);
  expect(seen).toEqual([]);
  store.publish();
  expect(seen).toEqual([8]);
  stop();
});
