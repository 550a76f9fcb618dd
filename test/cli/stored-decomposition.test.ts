// A decomposition is found again by what the LoRA file holds, in any of the stores that it may be in.

import { cp, mkdir, writeFile } from 'node:fs/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { keyOf, storedSpectra } from '../../src/cli/stored-decomposition.ts';
import { type Digest, digestFile } from '../../src/runtime/cache/digest.ts';
import { fingerprintOf } from '../../src/runtime/cache/fingerprint.ts';
import { Store } from '../../src/runtime/cache/store.ts';
import { absolutePath, pathIn } from '../../src/runtime/graph/paths.ts';
import type { Stage } from '../../src/runtime/stage.ts';
import { decompose } from '../../src/runtime/stages/decompose.ts';
import { lora } from '../../src/runtime/stages/lora.ts';
import { openFolder } from '../runtime/safetensors/files.ts';
import { fiveModules, writeLora } from '../runtime/stages/lora-files.ts';
import { writeFactors } from '../runtime/stages/reference-factors.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

const { signal } = new AbortController();

afterEach(() => vi.unstubAllEnvs());

async function publish(store: Store, stage: Stage, digest: Digest, outputs: Readonly<Record<string, string>>) {
  const key = keyOf(stage, digest);
  const fingerprint = fingerprintOf(key);
  const work = await store.workFolder(fingerprint);
  const files: Record<string, ReturnType<typeof absolutePath>> = {};
  for (const [name, path] of Object.entries(outputs)) {
    files[name] = pathIn(work, name);
    await cp(path, files[name]);
  }
  return store.publishEntry(fingerprint, key, files);
}

/** A LoRA, and its decomposition in a store, as `lorac resize` would leave it. */
async function decomposed(folder: Folder, store: string, at = 'hero.safetensors') {
  const path = await writeLora(folder.path(at));
  await writeFactors(path, folder.path('factors'));
  await writeFile(folder.path('modules'), '[]');
  const outputs = { factors: folder.path('factors'), modules: folder.path('modules') };
  await publish(new Store(absolutePath(store)), decompose, (await digestFile(absolutePath(path))) as Digest, outputs);
  return path;
}

const names = fiveModules.map(({ name }) => name).sort();

test("in the user's store, and in the one beside the file, under whatever name the file has", async () => {
  await using folder = await openFolder();
  vi.stubEnv('LORAC_STORE', folder.path('user'));
  const path = await decomposed(folder, folder.path('user'));
  const renamed = folder.path('other.safetensors');
  await cp(path, renamed);
  for (const file of [path, renamed]) {
    const found = await storedSpectra(file, undefined, signal);
    expect(found?.store).toBe(folder.path('user'));
    expect([...(found?.spectra.keys() ?? [])].sort()).toEqual(names);
  }
  vi.stubEnv('LORAC_STORE', folder.path('empty'));
  expect(await storedSpectra(path, undefined, signal)).toBeUndefined();
  await mkdir(folder.path('project'));
  const beside = await decomposed(folder, folder.path('project/.lorac'), 'project/hero.safetensors');
  expect((await storedSpectra(beside, undefined, signal))?.store).toBe(folder.path('project/.lorac'));
});

test('another LoRA finds nothing', async () => {
  await using folder = await openFolder();
  vi.stubEnv('LORAC_STORE', folder.path('user'));
  await decomposed(folder, folder.path('user'));
  const other = await writeLora(folder.path('other.safetensors'), fiveModules.slice(1));
  expect(await storedSpectra(other, undefined, signal)).toBeUndefined();
});

test('of a file in other names, the decomposition is that of what the stage "lora" made of it', async () => {
  await using folder = await openFolder();
  vi.stubEnv('LORAC_STORE', folder.path('user'));
  const canonical = await decomposed(folder, folder.path('user'));
  const written = await writeLora(folder.path('written.safetensors'), fiveModules, { metadata: new Map([['x', 'y']]) });
  const digest = (await digestFile(absolutePath(written))) as Digest;
  await publish(new Store(absolutePath(folder.path('user'))), lora, digest, { lora: canonical });
  expect([...((await storedSpectra(written, digest, signal))?.spectra.keys() ?? [])].sort()).toEqual(names);
});

test('a damaged decomposition is none', async () => {
  await using folder = await openFolder();
  vi.stubEnv('LORAC_STORE', folder.path('user'));
  const path = await writeLora(folder.path('hero.safetensors'));
  for (const name of ['factors', 'modules']) await writeFile(folder.path(name), 'no weights');
  const outputs = { factors: folder.path('factors'), modules: folder.path('modules') };
  const store = new Store(absolutePath(folder.path('user')));
  await publish(store, decompose, (await digestFile(absolutePath(path))) as Digest, outputs);
  expect(await storedSpectra(path, undefined, signal)).toBeUndefined();
});
