// What goes into the store comes out again, whole or not at all.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestFile, digestOf } from '../../../src/runtime/cache/digest.ts';
import { type FingerprintKey, fingerprintOf } from '../../../src/runtime/cache/fingerprint.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import type { AbsolutePath } from '../../../src/runtime/graph/graph.ts';
import type { Json } from '../../../src/runtime/graph/json.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { verifyStore } from '../../helpers/verify-store.ts';

const key: FingerprintKey = { stage: 'test', revision: 1, attributes: { thr: -3.55 }, inputs: { lora: digestOf('x') } };
const fingerprint = fingerprintOf(key);

async function publish(store: Store, files: { readonly [output: string]: string }, of: FingerprintKey = key) {
  const work = await store.workFolder(fingerprintOf(of));
  const paths: { [output: string]: AbsolutePath } = {};
  for (const [output, text] of Object.entries(files)) {
    paths[output] = `${work}/${output}` as AbsolutePath;
    writeFileSync(paths[output], text);
  }
  return store.publishEntry(fingerprintOf(of), of, paths, { from: work, record: { device: 'cpu' } });
}

test('a published result is found, under its key, with its bytes', async () => {
  using folder = temporaryFolder();
  const warnings: string[] = [];
  const store = new Store(folder.at('.lorac'), { warn: (message) => warnings.push(message) });
  expect(await store.lookup(fingerprint)).toEqual({ status: 'missing' });
  await publish(store, { lora: 'weights', same: 'weights', metrics: '' });
  const found = await store.lookup(fingerprint);
  expect(found).toMatchObject({ status: 'found', entry: { key, members: [], record: { device: 'cpu' } } });
  const outputs = found.status === 'found' ? found.entry.outputs : {};
  expect(outputs.lora).toEqual({
    digest: digestOf('weights'),
    sizeBytes: 7,
    path: store.blobPath(digestOf('weights')),
  });
  expect(outputs.same).toEqual(outputs.lora);
  expect(readFileSync(store.blobPath(digestOf('')), 'utf8')).toBe('');
  expect(readFileSync(folder.at('.lorac/.gitignore'), 'utf8')).toBe('*\n');
  expect(warnings).toEqual([]);
  expect(await verifyStore(store.folder)).toHaveLength(1);
});

test('the first result of a fingerprint stays', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  const first = await publish(store, { lora: 'first' });
  expect(await publish(store, { lora: 'second' })).toEqual(first);
});

test('a result whose bytes are gone or cut short is lost, and can be published again', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  const { outputs } = await publish(store, { lora: 'weights' });
  const path = outputs.lora?.path as AbsolutePath;
  truncateSync(path, 3);
  expect(await store.lookup(fingerprint)).toEqual({ status: 'lost', output: 'lora' });
  rmSync(path);
  expect(await store.lookup(fingerprint)).toEqual({ status: 'lost', output: 'lora' });
  expect(await store.readKey(fingerprint)).toEqual(key);
  await publish(store, { lora: 'other weights' });
  expect(await store.lookup(fingerprint)).toMatchObject({ status: 'found' });
});

test('an entry that is damaged, hostile or in the wrong place is not used', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  await publish(store, { lora: 'weights' });
  const path = store.entryPath(fingerprint);
  const good = readFileSync(path, 'utf8');
  const { entry } = JSON.parse(good);
  const digest = digestOf('weights');
  const hostile: readonly string[] = [
    '',
    '{',
    'null',
    '[]',
    good.replace('"lora"', '"mask"'),
    good.replace('"version":1', '"version":2'),
    good.trimEnd(),
    `${good}\n`,
    ...[
      null,
      [],
      { ...entry, key: { ...key, revision: 2 } },
      { ...entry, key: null },
      { ...entry, outputs: { lora: { digest: '../../../../etc/passwd', sizeBytes: 7 } } },
      { ...entry, outputs: { lora: { digest: 'A'.repeat(64), sizeBytes: 7 } } },
      { ...entry, outputs: { lora: { digest, sizeBytes: '7' } } },
      { ...entry, outputs: { lora: { digest, sizeBytes: -7 } } },
      { ...entry, outputs: { lora: null } },
      { ...entry, members: ['../x'] },
      { ...entry, members: {} },
      { ...entry, record: { device: {} } },
    ].map(summed),
  ];
  for (const content of hostile) {
    const warnings: string[] = [];
    writeFileSync(path, content);
    const strict = new Store(store.folder, { warn: (message) => warnings.push(message) });
    expect(await strict.lookup(fingerprint), content).toEqual({ status: 'missing' });
    expect(warnings).toEqual([`The stored result "${path}" is damaged and is not used.`]);
  }
  writeFileSync(path, summed(entry));
  expect(await store.lookup(fingerprint)).toMatchObject({ status: 'found' });
});

/** An entry's file with a checksum that is right, whatever is in it. */
function summed(content: unknown): string {
  const body = JSON.stringify(content);
  return `{"version":1,"checksum":"${digestOf(body)}","entry":${body}}\n`;
}

test('no random damage to an entry makes the store serve something else', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  await publish(store, { lora: 'weights' });
  const path = store.entryPath(fingerprint);
  const good = readFileSync(path);
  const change = fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
      const bad = Buffer.from(good);
      for (const [at, value] of changes) bad[at] = value;
      writeFileSync(path, bad);
      const found = await store.lookup(fingerprint);
      if (found.status === 'found') expect(found.entry.outputs.lora?.digest).toBe(digestOf('weights'));
    }),
  );
});

test('a publication that was cut off is completed from what lies about', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  await publish(store, { lora: 'weights', metrics: 'numbers' });
  // As if killed before the entry was written: one blob had been moved, the other not yet.
  rmSync(store.entryPath(fingerprint));
  renameSync(store.blobPath(digestOf('weights')), `${store.workPath(fingerprint)}/lora`);
  expect(await store.finishPublish(fingerprint)).toMatchObject({ key });
  expect(await store.lookup(fingerprint)).toMatchObject({ status: 'found' });
  await verifyStore(store.folder);

  rmSync(store.entryPath(fingerprint));
  rmSync(store.blobPath(digestOf('weights')));
  writeFileSync(`${store.workPath(fingerprint)}/lora`, 'WEIGHTS');
  expect(await store.finishPublish(fingerprint)).toBeUndefined();
});

test('an output that is not in a work folder is never moved', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  folder.write({ 'mine.safetensors': 'mine' });
  const files = { lora: folder.at('mine.safetensors') };
  await expect(store.publishEntry(fingerprint, key, files)).rejects.toThrow('is not in a work folder');
  expect(readFileSync(files.lora, 'utf8')).toBe('mine');
});

test('tidying takes away what is published, and leaves what somebody works on', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  await publish(store, { lora: 'weights' });
  const lock = await store.lock(fingerprint);
  await store.tidy();
  expect(existsSync(store.workPath(fingerprint))).toBe(true);
  lock.release();
  await store.tidy();
  expect(existsSync(store.workPath(fingerprint))).toBe(false);
});

test('a store is moved without losing anything', async () => {
  using folder = temporaryFolder();
  await publish(new Store(folder.at('one/.lorac')), { lora: 'weights' });
  renameSync(folder.at('one'), folder.at('two'));
  const moved = new Store(folder.at('two/.lorac'));
  expect(await moved.lookupEntry(fingerprint)).toMatchObject({
    outputs: { lora: { path: moved.blobPath(digestOf('weights')) } },
  });
});

test('files in the project go by their place in it, others by their whole path', () => {
  const store = new Store('/project/.lorac' as AbsolutePath);
  expect(store.nameOf('/project/images/a.png' as AbsolutePath)).toBe('images/a.png');
  expect(store.nameOf('/models/pony.safetensors' as AbsolutePath)).toBe('/models/pony.safetensors');
  expect(store.nameOf('/project-2/a' as AbsolutePath)).toBe('/project-2/a');
});

test('notes of two processes end up side by side', async () => {
  using folder = temporaryFolder();
  const [one, two] = [new Store(folder.at('.lorac')), new Store(folder.at('.lorac'))];
  one.history.set('a', digestOf('a'));
  two.history.set('b', digestOf('b'));
  await one.save();
  await two.save();
  const third = new Store(folder.at('.lorac'));
  expect([third.history.get('a'), third.history.get('b')]).toEqual([digestOf('a'), digestOf('b')]);
  expect(third.history.get('__proto__')).toBeUndefined();
});

test('notes that are no notes are made again, and hostile values in them are passed over', async () => {
  using folder = temporaryFolder();
  const path = folder.at('.lorac/mutable/history.json');
  mkdirSync(folder.at('.lorac/mutable'), { recursive: true });
  writeFileSync(path, '{"version":1,"entries":{"a":"../x","b":7,"c":null}}');
  const store = new Store(folder.at('.lorac'));
  expect(['a', 'b', 'c'].map((name) => store.history.get(name))).toEqual([undefined, undefined, undefined]);
  writeFileSync(path, '\0'.repeat(100));
  const warnings: string[] = [];
  const again = new Store(folder.at('.lorac'), { warn: (message) => warnings.push(message) });
  expect(again.history.get('a')).toBeUndefined();
  expect(warnings).toEqual([`"${path}" is damaged and is made again.`]);
});

test('looking writes nothing', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  await store.lookup(fingerprint);
  await store.save();
  await store.tidy();
  expect(existsSync(store.folder)).toBe(false);
});

test('a file in pieces has the digest of the whole', async () => {
  using folder = temporaryFolder();
  for (const size of [0, 1, 4 * 1024 * 1024, 9_000_001]) {
    const bytes = Buffer.alloc(size, 'lorac');
    folder.write({ big: bytes });
    expect(await digestFile(folder.at('big'))).toBe(digestOf(bytes));
  }
});

test('how much of a file has been read is told up to its end', async () => {
  using folder = temporaryFolder();
  folder.write({ big: Buffer.alloc(9_000_000, 1) });
  const heard: number[] = [];
  await digestFile(folder.at('big'), { onProgress: (doneBytes) => heard.push(doneBytes) });
  expect(heard).toEqual([4_194_304, 8_388_608, 9_000_000]);
});

test('a fingerprint is the same however its key is written, and differs when anything in it does', () => {
  const value = fc.jsonValue() as fc.Arbitrary<Json>;
  fc.assert(
    fc.property(fc.dictionary(fc.string(), value, { maxKeys: 5 }), (attributes) => {
      const entries = Object.entries(attributes);
      const shuffledKey = { ...key, attributes: Object.fromEntries(entries.toReversed()) };
      expect(fingerprintOf(shuffledKey)).toBe(fingerprintOf({ ...key, attributes: Object.fromEntries(entries) }));
    }),
  );
  const others: FingerprintKey[] = [
    { ...key, stage: 'other' },
    { ...key, revision: 2 },
    { ...key, attributes: {} },
    { ...key, attributes: { thr: '-3.55' } },
    { ...key, inputs: {} },
    { ...key, inputs: { lora: digestOf('y') } },
    { ...key, generation: 1 },
    { ...key, tools: { torch: '2.13.0' } },
  ];
  expect(new Set([key, ...others].map(fingerprintOf)).size).toBe(others.length + 1);
  expect(fingerprintOf({ ...key, attributes: { thr: -355e-2 } })).toBe(fingerprint);
});
