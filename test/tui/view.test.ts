import { expect, test } from 'vitest';
import { emptyView, reduce, remainingMs } from '../../src/tui/view.ts';
import { begun, done, failed, training, viewOf } from './streams.ts';

test('rows are in the order of the graph, and the history in the order of the endings', () => {
  const view = viewOf(done);
  expect(view.rows.map((row) => row.name).slice(0, 3)).toEqual(['pony', 'hero:manifest', 'raw:latents']);
  expect(view.rows.map((row) => row.state.status)).toEqual(['fresh', ...Array(7).fill('computed')]);
  expect(view.history.flatMap((entry) => (entry.kind === 'row' ? [entry.row.name] : []))).toEqual(
    view.rows.map((row) => row.name),
  );
});

test('reducing never changes the view that it is given', () => {
  const before = viewOf(begun);
  const copy = structuredClone(before);
  viewOf([...begun, ...training.slice(begun.length)]);
  expect(before).toEqual(copy);
});

test('the time that is left comes from the speed of this run, and runs down between events', () => {
  const raw = viewOf(training).rows.find((row) => row.name === 'raw');
  const steps = raw?.state.status === 'running' ? raw.state.training?.steps : undefined;
  if (steps === undefined) throw new Error('raw is not training');
  expect(remainingMs(steps, steps.atMs)).toBeCloseTo(26 * 1200);
  expect(remainingMs(steps, steps.atMs + 1000)).toBeCloseTo(26 * 1200 - 1000);
  expect(remainingMs({ ...steps, done: 1 }, steps.atMs)).toBeUndefined();
});

test('a resumed training counts its speed from where it went on', () => {
  const step = (step: number) =>
    ({ type: 'step', step, total: 100, loss: 0.1, learningRates: {}, gradNorm: 1, elapsedMs: 1000 }) as const;
  const view = viewOf([
    ...begun,
    [1000, { type: 'node-started', node: 'raw', because: { kind: 'never-built' } }],
    [6000, { type: 'node-progress', node: 'raw', progress: step(91) }],
    [7000, { type: 'node-progress', node: 'raw', progress: step(92) }],
  ]);
  const raw = view.rows.find((row) => row.name === 'raw');
  const steps = raw?.state.status === 'running' ? raw.state.training?.steps : undefined;
  expect(steps && remainingMs(steps, 7000)).toBeCloseTo(8000);
});

test('text of others arrives clean', () => {
  expect(JSON.stringify(viewOf(failed))).not.toContain('\\u001b');
});

test('the folder with the samples is remembered once', () => {
  expect(viewOf(done).pictureFolders).toEqual(['/home/me/hero/.lorac/runs/raw/samples']);
});

test('the montage is remembered once, and is no folder of pictures', () => {
  expect(viewOf(done).montages).toEqual(['/home/me/hero/.lorac/runs/raw/montage.png']);
});

test('files are told from the folder that the user is in, and others in full', () => {
  const placedFrom = (folder: string) =>
    done
      .reduce((view, [atMs, event]) => reduce(view, event, atMs), emptyView(0, folder))
      .placed.map(({ path }) => path);
  expect(placedFrom('/home/me/hero')).toEqual(['hero.safetensors']);
  expect(placedFrom('/home/me')).toEqual(['hero/hero.safetensors']);
  expect(placedFrom('/home/me/he')).toEqual(['/home/me/hero/hero.safetensors']);
  expect(placedFrom('/tmp')).toEqual(['/home/me/hero/hero.safetensors']);
});

test('what a stage found out stays in the history like a warning, and what it merely says passes by', () => {
  const said = (level: 'info' | 'result' | 'warning', message: string) =>
    [1000, { type: 'node-progress', node: 'raw', progress: { type: 'log', level, message } }] as const;
  const started = { type: 'node-started', node: 'raw', because: { kind: 'never-built' } } as const;
  const view = viewOf([
    ...begun,
    [900, started],
    said('info', 'passing'),
    said('result', '83 % is kept'),
    said('warning', 'odd'),
  ]);
  const messages = view.history.flatMap((entry) => (entry.kind === 'message' ? [entry] : []));
  expect(messages.map(({ level, from, message }) => [level, from, message])).toEqual([
    ['result', 'raw', '83 % is kept'],
    ['warning', 'raw', 'odd'],
  ]);
});

test('the folder of pictures is told at the end, and that of a grid made of them is not', () => {
  const wrote = (name: string, path: string) =>
    [1000, { type: 'node-progress', node: 'raw', progress: { type: 'artifact', name, path } }] as const;
  const view = viewOf([...begun, wrote('1.none', '/x/pictures/1-none.png'), wrote('grid', '/x/grid.png')]);
  expect(view.pictureFolders).toEqual(['/x/pictures']);
});
