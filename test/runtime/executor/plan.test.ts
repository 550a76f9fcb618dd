// What a plan says, without doing it.

import { expect, test } from 'vitest';
import type { Plan } from '../../../src/runtime/executor/build.ts';
import { openLab } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { labStages } from '../../helpers/lab-stages.ts';

const short = (plan: Plan) =>
  Object.fromEntries(
    plan.nodes.map((node) => [node.node, 'because' in node ? [node.status, node.because] : [node.status]]),
  );

test('before the first build every node runs, and the plan has done none of the costly ones', async () => {
  using lab = await openLab(project);
  const plan = await lab.plan();
  expect(plan.nodes.map(({ node }) => node)).toEqual(allNodes);
  expect(Object.values(short(plan))).toEqual(allNodes.map(() => ['runs', { kind: 'never-built' }]));
  const run = await lab.run();
  // The manifest costs next to nothing, so the plan had it made.
  expect(run.finished.fresh).toEqual(['hero:manifest']);
});

test('after a build everything is fresh', async () => {
  using lab = await openLab(project);
  await lab.run();
  expect(Object.values(short(await lab.plan()))).toEqual(allNodes.map(() => ['fresh']));
});

test('what follows from a change waits for what it changes', async () => {
  using lab = await openLab(project);
  await lab.run();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2.0'));
  expect(short(await lab.plan())).toMatchObject({
    raw: ['fresh'],
    small: ['runs', { kind: 'attribute-changed', attribute: 'thr', from: '-3.55', to: '-2' }],
    tiny: ['waits', { kind: 'input-will-change', input: 'small' }],
    'hero.safetensors': ['waits', { kind: 'input-will-change', input: 'tiny' }],
  });
});

test('an edited caption leaves the latents fresh in the plan as well', async () => {
  using lab = await openLab(project);
  await lab.run();
  lab.write({ 'images/a.txt': 'another caption' });
  expect(short(await lab.plan())).toMatchObject({
    'hero:manifest': ['runs', { kind: 'input-changed', input: 'captions' }],
    'raw:latents': ['fresh'],
    raw: ['runs', { kind: 'input-changed', input: 'hero:manifest.captions' }],
    small: ['waits', { kind: 'input-will-change', input: 'raw' }],
  });
});

test('a change of its own is told even of a node that has to wait', async () => {
  using lab = await openLab(project);
  await lab.run();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2.0').replace('OUT01', 'OUT02'));
  expect(short(await lab.plan()).tiny).toMatchObject(['runs', { kind: 'attribute-changed', attribute: 'keep' }]);
});

test('locked tools that stay as they are give no reason to run, and another version of one does', async () => {
  let torch = '2.12.0';
  const raw = { ...labStages.train, tools: () => ({ torch }) };
  using lab = await openLab(project, { stages: { train: raw } });
  await lab.run();
  expect(short(await lab.plan()).raw).toEqual(['fresh']);
  lab.write({ 'pony.safetensors': 'another checkpoint' });
  expect(short(await lab.plan()).raw).toEqual(['waits', { kind: 'input-will-change', input: 'raw:latents' }]);
  torch = '2.13.0';
  const because = { kind: 'attribute-changed', attribute: 'tools.torch', from: '2.12.0', to: '2.13.0' };
  expect(short(await lab.plan()).raw).toEqual(['runs', because]);
});

test('what cannot begin says why, and what needs it would be skipped, as a build does', async () => {
  using lab = await openLab(project);
  lab.remove('images/a.txt');
  lab.remove('pony.safetensors');
  const plan = await lab.plan();
  const failures = plan.nodes.flatMap((node) => (node.status === 'fails' ? [[node.node, node.failure.kind]] : []));
  expect(failures).toEqual([
    ['pony', 'missing-file'],
    ['hero:manifest', 'bad-input'],
  ]);
  const skipped = plan.nodes.flatMap((node) => (node.status === 'skipped' ? [[node.node, node.cause]] : []));
  expect(skipped).toHaveLength(allNodes.length - 2);
  const { statuses } = await lab.run();
  expect(skipped.map(([node]) => node)).toEqual(Object.keys(statuses).filter((node) => statuses[node] === 'skipped'));
  expect(Object.fromEntries(skipped)).toMatchObject({
    'raw:latents': 'hero:manifest',
    'raw:decompose': 'hero:manifest',
  });
});

test('what was asked for once more is planned with its targets', async () => {
  using lab = await openLab(project);
  await lab.run();
  const plan = await lab.plan({ rerun: ['raw'], targets: ['raw'] });
  expect(short(plan)).toEqual({
    pony: ['fresh'],
    'hero:manifest': ['fresh'],
    'raw:latents': ['fresh'],
    raw: ['runs', { kind: 'asked-for' }],
  });
});

test('a file in the way of a save is told before the hours of training', async () => {
  using lab = await openLab({ ...project, 'hero.safetensors': 'mine' });
  const plan = await lab.plan();
  expect(plan.warnings).toEqual([
    expect.stringContaining('hero.safetensors" exists already, and lorac did not make it'),
  ]);
});
