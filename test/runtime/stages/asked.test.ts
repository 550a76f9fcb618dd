// What the stages that know a base ask of the worker: every file of it, and extraction only where it was wanted.

import { expect, test } from 'vitest';
import type { Json } from '../../../src/runtime/graph/json.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import type { Artifact, Stage, StageContext } from '../../../src/runtime/stage.ts';
import { decompose } from '../../../src/runtime/stages/decompose.ts';
import { frobenius, projections } from '../../../src/runtime/stages/reference-numbers.ts';
import type { Work } from '../../../src/runtime/worker/protocol.ts';

/** Runs a stage whose inputs lie at /ROLE, and gives what it asked. */
async function asked(stage: Stage, roles: readonly string[], attributes: { readonly [name: string]: Json } = {}) {
  const works: Work[] = [];
  const artifact = (role: string): Artifact => ({
    digest: '0'.repeat(64) as Artifact['digest'],
    sizeBytes: 1,
    path: absolutePath(`/${role}`),
  });
  const hello = { device: 'cpu', deviceName: 'none', torch: '2', python: '3', threads: 1 };
  const context = {
    node: { attributes },
    inputs: Object.fromEntries(roles.map((role) => [role, artifact(role)])),
    work: absolutePath('/work'),
    imagePaths: new Map(),
    worker: async () => ({
      hello,
      request: async (work: Work) => {
        works.push(work);
        return { outputs: {} };
      },
    }),
  };
  await stage.run(context as unknown as StageContext);
  expect(works).toHaveLength(1);
  return works[0];
}

test('numbers of base weights come from a checkpoint, or from every file of a folder, sorted by role', async () => {
  expect(await asked(frobenius, ['modules', 'checkpoint'])).toMatchObject({
    op: 'frobenius',
    checkpoints: ['/checkpoint'],
    factors: null,
  });
  const folder = [
    'checkpoint.unet',
    'checkpoint.text_encoder_2.2',
    'checkpoint.text_encoder',
    'checkpoint.text_encoder_2',
  ];
  expect(await asked(projections, ['modules', 'factors', ...folder])).toMatchObject({
    checkpoints: folder.toSorted().map((role) => `/${role}`),
    factors: '/factors',
  });
});

test('a base is asked for in an extraction alone', async () => {
  expect(await asked(decompose, ['lora', 'checkpoint'])).toMatchObject({ extract: null, checkpoints: null });
  expect(await asked(decompose, ['lora'], { extract: 64 })).toMatchObject({ extract: 64, checkpoints: null });
  expect(await asked(decompose, ['lora', 'checkpoint.unet'], { extract: 64 })).toMatchObject({
    lora: '/lora',
    extract: 64,
    checkpoints: ['/checkpoint.unet'],
  });
});
