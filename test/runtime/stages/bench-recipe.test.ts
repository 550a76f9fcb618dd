// `python -m lora_worker.bench` has no Node to ask, so what a program of the guide asks the worker for lies beside it.
//
// It failed? The settings have changed, and the bench follows:
//   npx vitest run --project quick test/runtime/stages/bench-recipe.test.ts -u

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { compile } from '../../../src/parser/check.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { stages } from '../../../src/runtime/stages/index.ts';

const root = resolve(import.meta.dirname, '../../..');

test("the bench trains with the settings of the guide's program", async () => {
  const path = resolve(root, 'examples/ten-minute/ten-minute.lora');
  const { program } = compile({ path, text: readFileSync(path, 'utf8') }, { params: new Map() });
  if (program === undefined) throw new Error('The example does not compile.');
  const { nodes } = buildGraph(program, { home: absolutePath('/home/me'), stages });
  const training = nodes.find(({ stage }) => stage.name === 'train');
  // What is saved and shown, the bench says itself.
  const { save_every: _1, save_steps: _2, state_every: _3, sample: _4, ...others } = training?.settings ?? {};
  const settings = { ...training?.attributes, ...others };
  const recipe = resolve(root, 'python/lora_worker/bench/recipe.json');
  await expect(`${JSON.stringify(settings, undefined, 2)}\n`).toMatchFileSnapshot(recipe);
});
