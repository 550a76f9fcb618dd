// Whatever the graph and whatever is edited: a build on what is stored gives what a build from nothing would give,
// and computes only what is reached by a change.

import { rmSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/runtime/cache/digest.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import type { RunEvent } from '../../../src/runtime/events.ts';
import { runBuild } from '../../../src/runtime/executor/build.ts';
import type { Graph, GraphNode, NodeId, NodeInput } from '../../../src/runtime/graph/graph.ts';
import { textStage } from '../../helpers/lab-stages.ts';
import { shuffled } from '../../helpers/shuffled.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Gives one of four texts, so that many changes end where they begin. */
const mix = textStage('mix', (inputs, { node }) => ({
  out: digestOf(JSON.stringify([inputs, node.attributes]))
    .slice(0, 1)
    .replace(/[4-9a-f]/, '0'),
}));

interface World {
  /** By node: which earlier nodes it reads. */
  readonly edges: readonly (readonly number[])[];
  readonly settings: readonly number[];
  readonly files: readonly string[];
}

type Edit = { readonly what: 'file' | 'setting' | 'lose'; readonly at: number; readonly value: number };

const world: fc.Arbitrary<World> = fc.integer({ min: 1, max: 7 }).chain((size) =>
  fc.record({
    edges: fc.tuple(
      ...Array.from({ length: size }, (_, index) =>
        fc.uniqueArray(fc.nat({ max: Math.max(0, index - 1) }), { maxLength: index }),
      ),
    ),
    settings: fc.array(fc.nat({ max: 2 }), { minLength: size, maxLength: size }),
    files: fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: size, maxLength: size }),
  }),
);

const edit: fc.Arbitrary<Edit> = fc.record({
  what: fc.constantFrom('file' as const, 'setting' as const, 'lose' as const),
  at: fc.nat({ max: 6 }),
  value: fc.nat({ max: 3 }),
});

function graphOf(folder: TemporaryFolder, { edges, settings }: World): Graph {
  const source = { path: folder.at('main.lora'), text: '' };
  const nodes = edges.map((inputs, index): GraphNode => {
    const entries = inputs.map((from): [string, NodeInput] => [
      `n${from}`,
      { node: `n${from}` as NodeId, output: 'out' },
    ]);
    return {
      id: `n${index}` as NodeId,
      origin: { source, start: 0, end: 0 },
      stage: mix,
      attributes: { setting: settings[index] ?? 0 },
      settings: {},
      files: { file: folder.at(`file-${index}`) },
      inputs: Object.fromEntries(entries),
    };
  });
  return { program: folder.at('main.lora'), nodes };
}

async function build(folder: TemporaryFolder, now: World, storeName: string, seed: number) {
  folder.write(Object.fromEntries(now.files.map((text, index) => [`file-${index}`, text])));
  const store = new Store(folder.at(storeName));
  const events: RunEvent[] = [];
  const order = (nodes: readonly GraphNode[]) => shuffled(nodes, seed);
  const { ok, computed } = await runBuild({
    graph: graphOf(folder, now),
    store,
    listener: (event) => events.push(event),
    order,
  });
  expect(ok).toBe(true);
  const digests: { [node: string]: string | undefined } = {};
  for (const { id } of graphOf(folder, now).nodes) {
    const entry = await store.lookupEntry(store.history.get(`main.lora#${id}`) as never);
    digests[id] = entry?.outputs.out?.digest;
  }
  return { digests, computed, events };
}

function edited(now: World, { what, at, value }: Edit): World {
  const index = at % now.files.length;
  if (what === 'file') return { ...now, files: now.files.with(index, 'abcd'[value] as string) };
  if (what === 'setting') return { ...now, settings: now.settings.with(index, value) };
  return now;
}

/** The nodes that an edit can reach. */
function reached(now: World, index: number): Set<string> {
  const found = new Set([index]);
  now.edges.forEach((inputs, node) => {
    if (inputs.some((input) => found.has(input))) found.add(node);
  });
  return new Set([...found].map((node) => `n${node}`));
}

test('a build on what is stored equals a build from nothing', async () => {
  await fc.assert(
    fc.asyncProperty(world, fc.array(edit, { minLength: 1, maxLength: 4 }), fc.nat(), async (start, edits, seed) => {
      using folder = temporaryFolder();
      let now = start;
      await build(folder, now, '.lorac', seed);
      for (const [round, change] of edits.entries()) {
        now = edited(now, change);
        if (change.what === 'lose') rmSync(folder.at('.lorac/cas'), { recursive: true });
        const kept = await build(folder, now, '.lorac', seed + round);
        const clean = await build(folder, now, `clean-${round}`, seed);
        expect(kept.digests).toEqual(clean.digests);
        if (change.what === 'lose') continue;
        const possible = reached(now, change.at % now.files.length);
        expect(kept.computed.filter((node) => !possible.has(node))).toEqual([]);
        expect((await build(folder, now, '.lorac', seed)).computed).toEqual([]);
      }
    }),
    { numRuns: 12 },
  );
});
