// How the blocks of a program stand in the store, for lenses and hints. Kept until the program or the store changes.

import { readFileSync, statSync } from 'node:fs';
import { cleanLine } from '../parser/clean-text.ts';
import type { CheckedBlock, CheckedProgram } from '../parser/model.ts';
import type { Entry, Store } from '../runtime/cache/store.ts';
import { type NodePeek, peek } from '../runtime/executor/peek.ts';
import { savedMs } from '../runtime/executor/run-node.ts';
import type { Graph, GraphNode } from '../runtime/graph/graph.ts';
import { pathIn } from '../runtime/graph/paths.ts';
import { reasonInWords } from '../tui/reason.ts';
import { duration } from '../tui/units.ts';
import type { Project } from './project.ts';

export interface BlockState {
  readonly block: CheckedBlock;
  readonly isFresh: boolean;
  /** "fresh, 12 min saved". */
  readonly title: string;
  /** A line for each node of the block. */
  readonly why: readonly string[];
  /** What the block's main node gave at the last build. */
  readonly last: Entry | undefined;
}

export type States = ReadonlyMap<CheckedBlock, BlockState>;

export async function statesOf(program: CheckedProgram, project: Project, signal: AbortSignal): Promise<States> {
  const graph = project.graphOf(program);
  const peeks = await peek(graph, { store: project.peekingStoreOf(program), signal });
  return new Map(program.blocks.map((block) => [block, stateOf(block, graph, peeks)]));
}

function stateOf(block: CheckedBlock, { nodes }: Graph, peeks: ReadonlyMap<GraphNode['id'], NodePeek>): BlockState {
  // Variants of a block come from one place of the text.
  const isOwn = (id: string) => block.variant === undefined || id === block.name || id.startsWith(`${block.name}:`);
  const own = nodes.filter(({ id, origin }) => origin === block.span && isOwn(id));
  const main = own.find(({ id }) => id === block.name) ?? own[0];
  const looked = own.map((node) => ({ node, peek: peeks.get(node.id) as NodePeek }));
  return {
    block,
    isFresh: looked.every((one) => one.peek.scanned.status === 'fresh'),
    title: titleOf(looked.map((one) => one.peek)),
    why: looked.map(({ node, peek: { scanned } }) => cleanLine(`${node.id}: ${inWords(scanned)}`)),
    last: main && peeks.get(main.id)?.last,
  };
}

type Scanned = NodePeek['scanned'];

/** What matters most about the nodes of one block. */
function titleOf(peeks: readonly NodePeek[]): string {
  const find = (status: Scanned['status']) => peeks.find(({ scanned }) => scanned.status === status)?.scanned;
  const first = find('fails') ?? find('runs') ?? find('waits') ?? find('stopped');
  if (first !== undefined) return inWords(first);
  if (peeks.length === 0) return 'nothing to make';
  const savedInAll = peeks.reduce((sum, { last }) => sum + ((last && savedMs(last)) ?? 0), 0);
  return savedInAll < 100 ? 'fresh' : `fresh, ${duration(savedInAll)} saved`;
}

function inWords(scanned: Scanned): string {
  switch (scanned.status) {
    case 'fresh': {
      const saved = savedMs(scanned.examined.entry);
      return saved === undefined || saved < 100 ? 'fresh' : `fresh, ${duration(saved)} saved`;
    }
    case 'runs':
      return `would run: ${reasonInWords(scanned.because)}`;
    case 'waits':
      return `waits: ${reasonInWords(scanned.because)}`;
    case 'fails':
      return scanned.failure.kind === 'not-read'
        ? 'unknown: a file has changed since it was last read'
        : cleanLine(`cannot begin: ${scanned.failure.message}`);
    case 'stopped':
      return 'unknown';
  }
}

/** Changes whenever a build has recorded something in the store. */
export function storeMark(store: Store): string {
  const history = statSync(pathIn(store.folder, 'mutable', 'history.json'), { bigint: true, throwIfNoEntry: false });
  return history === undefined ? '' : `${history.mtimeNs}-${history.ino}`;
}

/** How many images an epoch has, and how many files they are, as the manifest of the last build says. */
export interface ImageCount {
  readonly images: number;
  readonly perEpoch: number;
}

const MOST_COUNTS = 20;
const counts = new Map<string, ImageCount>();

export function imageCount(manifest: Entry): ImageCount | undefined {
  const artifact = manifest.outputs.images;
  if (artifact === undefined) return undefined;
  const known = counts.get(artifact.digest);
  if (known !== undefined) return known;
  let images: readonly { readonly repeats: number }[];
  try {
    images = JSON.parse(readFileSync(artifact.path, 'utf8'));
  } catch (error) {
    // Gone since we looked, or damaged: a build says so, a hint is left out.
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code !== undefined) return undefined;
    throw error;
  }
  const count = { images: images.length, perEpoch: images.reduce((sum, { repeats }) => sum + repeats, 0) };
  if (counts.size >= MOST_COUNTS) counts.clear();
  counts.set(artifact.digest, count);
  return count;
}
