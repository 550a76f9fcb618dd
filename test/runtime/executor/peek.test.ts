// What an editor may know of a program without reading, computing or locking anything.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Store } from '../../../src/runtime/cache/store.ts';
import { type NodePeek, peek } from '../../../src/runtime/executor/peek.ts';
import { type Lab, openLab } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { settle } from '../../helpers/settle.ts';

async function look(lab: Lab): Promise<{ readonly [node: string]: NodePeek }> {
  const store = new Store(lab.at('.lorac'), { mayReadFiles: false });
  return Object.fromEntries(await peek(lab.graph(), { store, signal: new AbortController().signal }));
}

const statuses = (peeks: { readonly [node: string]: NodePeek }) =>
  Object.fromEntries(
    Object.entries(peeks).map(([node, { scanned }]) => [
      node,
      scanned.status === 'fails' ? scanned.failure.kind : scanned.status,
    ]),
  );

test('after a build everything is fresh, and what it gave is known', async () => {
  using lab = await openLab(project);
  await lab.run();
  const peeks = await look(lab);
  expect(statuses(peeks)).toEqual(Object.fromEntries(allNodes.map((node) => [node, 'fresh'])));
  expect(peeks.small?.last?.outputs.lora?.sizeBytes).toBeGreaterThan(0);
});

test('what was given last is known of a block that has changed since', async () => {
  using lab = await openLab(project);
  await lab.run();
  const before = (await look(lab)).small?.last?.outputs.lora?.digest;
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2'));
  const peeks = await look(lab);
  expect(peeks.small?.scanned).toMatchObject({
    status: 'runs',
    because: { kind: 'attribute-changed', attribute: 'thr' },
  });
  expect(peeks.tiny?.scanned).toMatchObject({ status: 'waits' });
  expect(peeks.small?.last?.outputs.lora?.digest).toBe(before);
});

test.each([
  ['pony.safetensors', 'pony'],
  ['images/a.png', 'hero:manifest'],
  ['images/a.txt', 'hero:manifest'],
])('%s that has changed is not read', async (file, node) => {
  using lab = await openLab(project);
  await lab.run();
  lab.write({ [file]: 'something else, and longer than before' });
  expect(statuses(await look(lab))[node]).toBe('not-read');
});

test('before the first build nothing is read and nothing is written', async () => {
  using lab = await openLab(project);
  expect(statuses(await look(lab))).toMatchObject({ pony: 'not-read', 'hero:manifest': 'not-read', small: 'runs' });
  expect(readdirSync(lab.folder)).not.toContain('.lorac');
});

test('looking leaves the store as it was', async () => {
  using lab = await openLab(project);
  await lab.run();
  const listing = () =>
    readdirSync(lab.at('.lorac'), { recursive: true, encoding: 'utf8' })
      .toSorted()
      .map((name) => [name, statSync(join(lab.at('.lorac'), name), { bigint: true }).mtimeNs]);
  const before = listing();
  await settle();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2'));
  await look(lab);
  expect(listing()).toEqual(before);
});
