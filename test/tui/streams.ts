// Runs made up for the view's tests: events, and the moment at which each arrives.

import type { Failure, NodeSummary, RunEvent } from '../../src/runtime/events.ts';
import { emptyView, reduce, type View } from '../../src/tui/view.ts';

export type Timed = readonly [atMs: number, event: RunEvent];

export function viewOf(events: readonly Timed[]): View {
  return events.reduce((view, [atMs, event]) => reduce(view, event, atMs), emptyView(0));
}

const stages: readonly (readonly [string, string, number])[] = [
  ['pony', 'checkpoint', 1],
  ['hero:manifest', 'manifest', 2],
  ['raw:latents', 'latents', 3],
  ['raw', 'train', 3],
  ['raw:decompose', 'decompose', 4],
  ['small', 'resize', 4],
  ['tiny', 'chop', 5],
  ['hero.safetensors', 'save', 6],
];

export const nodes: readonly NodeSummary[] = stages.map(([node, stage, line]) => ({
  node,
  stage,
  origin: { path: 'hero.lora', line, column: 1 },
}));

export const begun: readonly Timed[] = [
  [0, { type: 'run-started', program: 'hero.lora', nodes }],
  [5, { type: 'node-fresh', node: 'pony', savedMs: 2300 }],
  [10, { type: 'node-started', node: 'hero:manifest', because: { kind: 'never-built' } }],
  [300, { type: 'node-computed', node: 'hero:manifest', because: { kind: 'never-built' }, elapsedMs: 290 }],
];

export const encoding: readonly Timed[] = [
  ...begun,
  [310, { type: 'node-started', node: 'raw:latents', because: { kind: 'input-changed', input: 'hero:manifest' } }],
  [320, { type: 'worker', status: 'ready', message: 'cpu, 2 threads, torch 2.13.0' }],
  ...[0, 4, 8].map(
    (done): Timed => [
      1000 + done * 800,
      {
        type: 'node-progress',
        node: 'raw:latents',
        progress: { type: 'progress', done, total: 24, unit: 'images', note: '1024x768' },
      },
    ],
  ),
];

export const encoded: readonly Timed[] = [
  ...encoding,
  [
    20_000,
    {
      type: 'node-computed',
      node: 'raw:latents',
      because: { kind: 'input-changed', input: 'hero:manifest' },
      elapsedMs: 19_700,
    },
  ],
];

function trainingSteps(from: number, to: number): Timed[] {
  return Array.from({ length: to - from + 1 }, (_, index): Timed => {
    const step = from + index;
    const progress = {
      type: 'step',
      step,
      total: 60,
      loss: 0.1 + 0.4 / step + 0.01 * Math.sin(step),
      learningRates: { unet: 3e-4 * (1 - step / 120), text_encoder: 1e-4 * (1 - step / 120) },
      gradNorm: 1,
      elapsedMs: 1200,
    } as const;
    return [22_000 + 1200 * step, { type: 'node-progress', node: 'raw', progress }];
  });
}

export const training: readonly Timed[] = [
  ...encoded,
  [
    22_000,
    {
      type: 'node-started',
      node: 'raw',
      because: { kind: 'attribute-changed', attribute: 'unet_lr', from: '0.0002', to: '0.0003' },
    },
  ],
  ...trainingSteps(1, 34),
  [
    62_900,
    {
      type: 'node-progress',
      node: 'raw',
      progress: { type: 'artifact', name: 'sample', path: '/home/me/hero/.lorac/runs/raw/samples/step-30-1.png' },
    },
  ],
];

/** Steps that take long: between two of them the micro-batches are told. */
export const longSteps: readonly Timed[] = [
  ...training,
  ...[1, 3].map(
    (done): Timed => [
      63_000 + done,
      {
        type: 'node-progress',
        node: 'raw',
        progress: { type: 'progress', done, total: 6, unit: 'micro-batches', note: 'step 35' },
      },
    ],
  ),
];

const montage = '/home/me/hero/.lorac/runs/raw/montage.png';

const because = { kind: 'input-will-change', input: 'raw' } as const;

export const done: readonly Timed[] = [
  ...training,
  ...trainingSteps(35, 60),
  ...[30, 60].map(
    (step): Timed => [
      94_000 + step,
      { type: 'node-progress', node: 'raw', progress: { type: 'artifact', name: 'montage', path: montage } },
    ],
  ),
  [95_000, { type: 'node-computed', node: 'raw', because: { kind: 'never-built' }, elapsedMs: 73_000 }],
  ...['raw:decompose', 'small', 'tiny', 'hero.safetensors'].map(
    (node, index): Timed => [96_000 + index, { type: 'node-computed', node, because, elapsedMs: 400 }],
  ),
  [96_010, { type: 'placed', node: 'hero.safetensors', path: '/home/me/hero/hero.safetensors', sizeBytes: 1_234_567 }],
  [
    96_020,
    {
      type: 'finished',
      ok: true,
      interrupted: false,
      computed: ['hero:manifest', 'raw:latents', 'raw', 'raw:decompose', 'small', 'tiny', 'hero.safetensors'],
      fresh: ['pony'],
      failed: [],
      skipped: [],
      elapsedMs: 96_020,
    },
  ],
];

export const failure: Failure = {
  kind: 'bad-input',
  message: '2 images of "hero" cannot be read.',
  hint: 'Replace them, or move them out of the folder.',
  problems: [
    { path: 'images/a.png', message: 'the file is empty (0 bytes)' },
    { path: 'images/\u001b[31mb.jpg', message: 'it ends before the end-of-image marker' },
  ],
  logTail: ['Traceback (most recent call last):', '  File "x.py", line 1', 'OSError: truncated'],
};

export const failed: readonly Timed[] = [
  ...begun.slice(0, 3),
  [400, { type: 'node-failed', node: 'hero:manifest', failure, origin: { path: 'hero.lora', line: 2, column: 1 } }],
  ...nodes
    .slice(2)
    .map(({ node }, index): Timed => [401 + index, { type: 'node-skipped', node, cause: 'hero:manifest' }]),
  [
    420,
    {
      type: 'finished',
      ok: false,
      interrupted: false,
      computed: [],
      fresh: ['pony'],
      failed: ['hero:manifest'],
      skipped: nodes.slice(2).map(({ node }) => node),
      elapsedMs: 420,
    },
  ],
];

export const nothing: readonly Timed[] = [
  [0, { type: 'run-started', program: 'hero.lora', nodes }],
  ...nodes.map(({ node }, index): Timed => [5 + index, { type: 'node-fresh', node, savedMs: 1000 }]),
  [
    60,
    {
      type: 'finished',
      ok: true,
      interrupted: false,
      computed: [],
      fresh: nodes.map(({ node }) => node),
      failed: [],
      skipped: [],
      elapsedMs: 60,
    },
  ],
];
