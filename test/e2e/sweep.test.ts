// The example with sweeps, as a user builds it: all variants, one of them, and then one value more.

import { readdirSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { Project } from './project.ts';

const withoutPython = { LORAC_PYTHON: '/nonexistent/python' };

let project: Project;

beforeAll(async () => {
  project = await Project.open();
  const example = join(import.meta.dirname, '../../examples/sweep/sweep.lora');
  const text = await readFile(example, 'utf8');
  await writeFile(project.path('hero.lora'), text.replaceAll('../surgery/', 'surgery/'));
  await mkdir(project.path('surgery'));
  await cp(join(inject('inputs'), 'character.safetensors'), project.path('surgery/character.safetensors'));
  await cp(project.path('base.safetensors'), project.path('surgery/toy-sdxl.safetensors'));
  await writeFile(project.path('surgery/prompts.txt'), 'roundling --w 64 --h 64 --s 1 --d 1\n');
});
afterAll(async () => await project[Symbol.asyncDispose]());

const saved = () => readdirSync(project.path('out')).toSorted();

test('one variant is built by its name, and the others are not', async () => {
  const { exitCode, finished } = await project.build(['tiny[t=-1.0, keep=one]']);
  expect(exitCode).toBe(0);
  const made = ['small[t=-1]', 'tiny[t=-1,keep=one]'];
  expect(finished.computed.filter((name) => /^(?:small|tiny)\[/.test(name))).toEqual(made);
}, 60_000);

test('all variants are saved under paths of their own, and stand side by side in one picture', async () => {
  const { exitCode, finished } = await project.build();
  expect([exitCode, finished.failed, finished.skipped]).toEqual([0, [], []]);
  expect(finished.fresh).toContain('tiny[t=-1,keep=one]');
  const values = ['few-0.5', 'few-1', 'few-1.5', 'few-2', 'one-0.5', 'one-1', 'one-1.5', 'out-1', 'out-1.5', 'out-2'];
  expect(saved()).toEqual(values.map((value) => `character-${value}.safetensors`).toSorted());
  const picture = await project.bytes('picture.png');
  expect(picture.readUInt32BE(16)).toBeGreaterThan(picture.readUInt32BE(20));
}, 120_000);

test('one more value makes what is new, without Python where no picture is asked for', async () => {
  await project.edit('hero.lora', (text) => text.replace('-1.5, -2]', '-1.5, -2, -2.5]'));
  const { exitCode, finished } = await project.build(['tiny'], withoutPython);
  expect(exitCode).toBe(0);
  expect([...finished.computed].sort()).toEqual([
    ...['small[t=-2.5]', 'tiny[t=-2.5,keep=few]', 'tiny[t=-2.5,keep=one]', 'tiny[t=-2.5,keep=out]'],
  ]);
}, 60_000);
