// Results as files of the user's: placed, noticed when they are gone or changed, and never at the cost of another file.

import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/runtime/cache/digest.ts';
import { changedAt, type Lab, openLab } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { labStages, textStage } from '../../helpers/lab-stages.ts';

async function builtLab(): Promise<Lab> {
  const lab = await openLab(project);
  expect((await lab.run()).finished.ok).toBe(true);
  return lab;
}

const kept = (lab: Lab) =>
  readdirSync(lab.folder)
    .filter((name) => name.startsWith('hero'))
    .toSorted();

test('a deleted file is placed again', async () => {
  using lab = await builtLab();
  const before = lab.read('hero.safetensors');
  lab.remove('hero.safetensors');
  const run = await lab.run();
  expect(run.finished.computed).toEqual(['hero.safetensors']);
  expect(run.reasons).toEqual({ 'hero.safetensors': { kind: 'not-placed', path: lab.at('hero.safetensors') } });
  expect(run.events).toContainEqual({
    type: 'placed',
    node: 'hero.safetensors',
    path: lab.at('hero.safetensors'),
    sizeBytes: before.length,
  });
  expect(lab.read('hero.safetensors')).toBe(before);
});

test('a file in place is left alone', async () => {
  using lab = await builtLab();
  const before = changedAt(lab.at('hero.safetensors'));
  await lab.run();
  expect(changedAt(lab.at('hero.safetensors'))).toBe(before);
});

test('a file that somebody changed is kept beside the one that is placed again', async () => {
  using lab = await builtLab();
  const before = lab.read('hero.safetensors');
  for (const [count, text] of ['edited', 'edited again'].entries()) {
    lab.write({ 'hero.safetensors': text });
    const run = await lab.run();
    expect(run.finished.computed).toEqual(['hero.safetensors']);
    expect(run.messages).toEqual([expect.stringContaining(`hero.changed-${count + 1}.safetensors`)]);
  }
  expect(kept(lab)).toEqual(['hero.changed-1.safetensors', 'hero.changed-2.safetensors', 'hero.safetensors']);
  expect(lab.read('hero.safetensors')).toBe(before);
  expect(lab.read('hero.changed-1.safetensors')).toBe('edited');
  expect(lab.read('hero.changed-2.safetensors')).toBe('edited again');
});

test('an older result of ours is replaced without a word', async () => {
  using lab = await builtLab();
  const before = lab.read('hero.safetensors');
  lab.edit('main.lora', (text) => text.replace('-3.55', '-1'));
  const run = await lab.run();
  expect(run.finished.ok).toBe(true);
  expect(run.messages).toEqual([]);
  expect(lab.read('hero.safetensors')).not.toBe(before);
  expect(kept(lab)).toEqual(['hero.safetensors']);
});

test('a file of ours is known by its bytes, also when the notes are gone', async () => {
  using lab = await builtLab();
  rmSync(lab.at('.lorac/mutable'), { recursive: true });
  lab.edit('main.lora', (text) => text.replace('-3.55', '-1'));
  expect((await lab.run()).finished.ok).toBe(true);
});

test('a file that lorac did not make is left alone, unless the program says to replace it', async () => {
  using lab = await openLab({ ...project, 'hero.safetensors': 'mine' });
  const run = await lab.run();
  expect(run.messages).toEqual([expect.stringContaining('exists already')]);
  expect(run.finished).toMatchObject({ ok: false, failed: ['hero.safetensors'], computed: allNodes.slice(0, -1) });
  expect(run.failures['hero.safetensors']).toMatchObject({
    kind: 'target-exists',
    hint: 'Save under another name, or replace it: `overwrite = true` in the save block, `--overwrite` on the command line.',
  });
  expect(lab.read('hero.safetensors')).toBe('mine');
  expect((await lab.plan()).nodes.at(-1)).toMatchObject({ status: 'fails', failure: { kind: 'target-exists' } });

  lab.edit('main.lora', (text) => text.replace('{ from = tiny }', '{ from = tiny  overwrite = true }'));
  const again = await lab.run();
  expect(again.finished).toMatchObject({ ok: true, computed: ['hero.safetensors'] });
  expect(lab.read('hero.safetensors')).toMatch(/^hero: /);
  expect(kept(lab)).toEqual(['hero.safetensors']);
});

test('a file with the right bytes is in place, whoever put it there', async () => {
  using lab = await builtLab();
  const bytes = lab.read('hero.safetensors');
  using other = await openLab({ ...project, 'hero.safetensors': bytes });
  expect((await other.run()).finished.ok).toBe(true);
});

test('missing folders are made, and a folder in the way is not replaced', async () => {
  using lab = await openLab(project);
  lab.edit('main.lora', (text) => text.replace('"hero.safetensors"', '"out/deep/hero.safetensors"'));
  expect((await lab.run()).finished.ok).toBe(true);
  expect(lab.read('out/deep/hero.safetensors')).toMatch(/^hero: /);
  rmSync(lab.at('out/deep/hero.safetensors'));
  mkdirSync(lab.at('out/deep/hero.safetensors'));
  lab.edit('main.lora', (text) => text.replace('{ from = tiny }', '{ from = tiny  overwrite = true }'));
  expect((await lab.run()).failures['out/deep/hero.safetensors']?.kind).toBe('target-exists');
});

test('nothing is ever saved over a file that the program reads', async () => {
  using lab = await openLab(project);
  lab.edit('main.lora', (text) =>
    text.replace('"hero.safetensors" { from = tiny }', '"pony.safetensors" { from = tiny  overwrite = true }'),
  );
  const run = await lab.run();
  expect(run.failures['pony.safetensors']?.kind).toBe('target-is-input');
  expect(lab.read('pony.safetensors')).toBe(project['pony.safetensors']);
});

test('nor over one that goes by another path', async () => {
  using lab = await openLab(project);
  symlinkSync('.', lab.at('here'));
  lab.edit('main.lora', (text) =>
    text.replace('"hero.safetensors" { from = tiny }', '"here/pony.safetensors" { from = tiny  overwrite = true }'),
  );
  expect((await lab.run()).failures['here/pony.safetensors']?.kind).toBe('target-is-input');
  expect(lab.read('pony.safetensors')).toBe(project['pony.safetensors']);
});

test('builds that place one file at once leave it whole, and nothing beside it', async () => {
  const save = textStage('save', ({ lora }) => ({ lora: `${lora}`.padEnd(20_000_000, '.') }));
  using lab = await openLab(project, { stages: { ...labStages, save } });
  expect((await lab.run()).finished.ok).toBe(true);
  const whole = lab.read('hero.safetensors');
  lab.remove('hero.safetensors');
  const runs = await Promise.all(Array.from({ length: 4 }, () => lab.run()));
  expect(runs.map(({ finished }) => finished.ok)).toEqual([true, true, true, true]);
  expect(lab.read('hero.safetensors') === whole).toBe(true);
  expect(readdirSync(lab.folder).filter((name) => name.includes('hero'))).toEqual(['hero.safetensors']);
});

test('a stored result with other bytes than it had is not placed, and made again by the next build', async () => {
  using lab = await builtLab();
  const whole = lab.read('hero.safetensors');
  const store = lab.store();
  const blob = store.blobPath(digestOf(whole));
  writeFileSync(blob, 'x'.repeat(whole.length));
  lab.remove('hero.safetensors');
  const run = await lab.run();
  expect(run.failures['hero.safetensors']).toMatchObject({ kind: 'store-damaged' });
  expect(kept(lab)).toEqual([]);
  expect((await lab.run()).finished).toMatchObject({ ok: true, computed: ['hero.safetensors'] });
  expect(lab.read('hero.safetensors')).toBe(whole);
});
