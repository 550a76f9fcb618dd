// Variants of a sweep are blocks like any others: the same work has the same result, and each can be asked for.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { noWorker, openLab } from '../../helpers/lab.ts';
import { project } from '../../helpers/lab-project.ts';
import { settle } from '../../helpers/settle.ts';

const program = (thr: string, steps = '40') => `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  steps = ${steps} }
resize small { from = raw  thr = ${thr} }
chop tiny { from = small  keep = [OUT01] }
save "hero\${small.thr}-\${raw.steps}.safetensors" { from = tiny }
`;

test('one more value runs its own variant, and the plain value that was there stays as it was', async () => {
  using lab = await openLab({ ...project, 'main.lora': program('-3.55') });
  await lab.run();
  await settle();
  lab.edit('main.lora', () => program('sweep [-3.55, -2.0]'));
  const run = await lab.run({ startWorker: noWorker });
  expect(run.finished).toMatchObject({
    ok: true,
    computed: ['small[thr=-2.0]', 'tiny[thr=-2.0]', 'hero-2.0-40.safetensors'],
  });
  expect(run.statuses['small[thr=-3.55]']).toBe('fresh');
  await settle();
  lab.edit('main.lora', () => program('-2'));
  expect((await lab.run({ startWorker: noWorker })).finished.computed).toEqual(['hero-2-40.safetensors']);
});

test('whatever values come and go, only what was never built is computed', async () => {
  const values = fc.uniqueArray(fc.constantFrom('-2', '-2.5', '-3', '-3.5', '-4'), { minLength: 1, maxLength: 3 });
  const steps = fc.uniqueArray(fc.constantFrom('20', '30', '40'), { minLength: 1, maxLength: 3 });
  const written = (list: readonly string[]) => (list.length === 1 ? `${list[0]}` : `sweep [${list.join(', ')}]`);
  const states = fc.array(fc.record({ thr: values, steps }), { minLength: 2, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(states, async (programs) => {
      using lab = await openLab(project);
      const built = new Set<string>();
      for (const { thr, steps } of programs) {
        lab.edit('main.lora', () => program(written(thr), written(steps)));
        await settle();
        const { finished } = await lab.run();
        const wanted = thr.flatMap((one) => steps.map((other) => `hero${one}-${other}.safetensors`));
        const saved = finished.computed.filter((name) => name.endsWith('.safetensors'));
        expect(finished.ok).toBe(true);
        expect(saved.toSorted()).toEqual(wanted.filter((name) => !built.has(name)).toSorted());
        const resized = finished.computed.filter((name) => name.startsWith('small'));
        expect(resized).toHaveLength(saved.length);
        for (const name of wanted) built.add(name);
      }
    }),
    { numRuns: 3 },
  );
});

test('a block’s name means all variants, and values mean those that have them', async () => {
  using lab = await openLab({ ...project, 'main.lora': program('sweep [-3, -4]', 'sweep [20, 40]') });
  const planned = async (...targets: string[]) => {
    const { nodes } = await lab.plan({ targets });
    return nodes.map(({ node }) => node).filter((name) => /^(?:small|tiny|hero)(?!:)/.test(name));
  };
  expect(await planned('small')).toEqual([
    ...['small[steps=20,thr=-3]', 'small[steps=20,thr=-4]', 'small[steps=40,thr=-3]', 'small[steps=40,thr=-4]'],
  ]);
  expect(await planned('small[thr=-4.0]')).toEqual(['small[steps=20,thr=-4]', 'small[steps=40,thr=-4]']);
  expect(await planned('small[thr = -4, steps = 40]')).toEqual(['small[steps=40,thr=-4]']);
  expect(await planned('raw[steps=20]')).toEqual([]);
  expect((await lab.plan({ targets: ['raw'] })).nodes.map(({ node }) => node)).toContain('raw[steps=40]');
});

test('--rerun of a block does all its variants once more, and of one variant that one', async () => {
  using lab = await openLab({ ...project, 'main.lora': program('sweep [-3, -4]') });
  await lab.run();
  await settle();
  const rerun = async (...names: string[]) => {
    const { finished } = await lab.run({ rerun: names, startWorker: noWorker });
    return finished.computed.filter((name) => name.startsWith('small'));
  };
  expect(await rerun('small')).toEqual(['small[thr=-3]', 'small[thr=-4]']);
  expect(await rerun('small[thr=-4]')).toEqual(['small[thr=-4]']);
});
