// Keeps `runs/<block>/` what it is called by: the files of the program as it is, also where a result was built long ago
// and another one has been looked at since.

import { digestOf } from '../cache/digest.ts';
import type { Entry } from '../cache/entry.ts';
import { beginToShow, endToShow, readWhose } from '../cache/whose.ts';
import { StageFailure } from '../events.ts';
import type { AbsolutePath, GraphNode } from '../graph/graph.ts';
import type { Shown, StageContext } from '../stage.ts';
import { artifactsOf } from './artifacts.ts';
import type { Entries } from './examine.ts';
import type { Run } from './run-node.ts';

/** Says that what a node had to show is not to be relied on, before its stage works. */
export async function beginShowing(run: Run, node: GraphNode): Promise<void> {
  if (node.stage.shown === undefined) return;
  const folder = run.store.runPath(node.stage.shown.block(node));
  await harmlessly(run, node, folder, async () => {
    if ((await readWhose(folder)).whole[node.id] === undefined) return;
    await alone(run, folder, () => beginToShow(folder, node.id));
  });
}

/** Lays out what a node has to show, unless it lies there. Where it does, that costs the reading of a note. */
export async function showResult(
  run: Run,
  result: { readonly node: GraphNode; readonly entry: Entry; readonly entries: Entries; readonly isNew: boolean },
): Promise<void> {
  const { store, emit, shownAgain } = run;
  const { node, entry, isNew } = result;
  const { shown } = node.stage;
  if (shown === undefined) return;
  const block = shown.block(node);
  const folder = store.runPath(block);
  await harmlessly(run, node, folder, async () => {
    if ((await readWhose(folder)).whole[node.id] === entry.fingerprint) return;
    await store.runFolder(block);
    const isWhole = await alone(run, folder, () => layOut(run, { ...result, folder, shown }));
    if (!isWhole || isNew || shownAgain.has(folder)) return;
    shownAgain.add(folder);
    emit({ type: 'message', level: 'info', message: `"${store.nameOf(folder)}" shows "${block}" as it is now.` });
  });
}

async function layOut(
  { store, emit }: Run,
  { node, entry, entries, isNew, folder, shown }: Parameters<typeof showResult>[1] & Laid,
): Promise<boolean> {
  // What is told of a node that has nothing to do would look like work.
  const report: StageContext['report'] = (progress) => {
    if (isNew) emit({ type: 'node-progress', node: node.id, progress });
    else if (progress.type === 'log' && progress.level !== 'result')
      emit({ type: 'message', level: progress.level, message: progress.message });
  };
  await beginToShow(folder, node.id);
  const inputs = artifactsOf(store, node, entry.key, entries);
  const isWhole = await shown.layOut({ node, entry, entries, inputs, store, report });
  if (isWhole) await endToShow(folder, node.id, entry.fingerprint);
  return isWhole;
}

interface Laid {
  readonly folder: AbsolutePath;
  readonly shown: Shown;
}

/** Does something to a folder and its note that no other build does meanwhile. */
async function alone<Value>({ store, signal }: Run, folder: AbsolutePath, work: () => Promise<Value>): Promise<Value> {
  const lock = await store.lock(digestOf(folder), { signal });
  try {
    return await work();
  } finally {
    lock.release();
  }
}

/** What is there to look at belongs to no result: where it cannot be written, that is a warning. */
async function harmlessly(
  { signal, emit }: Run,
  { id }: GraphNode,
  folder: AbsolutePath,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined && !(error instanceof StageFailure)) throw error;
    const warning = `"${folder}" may show something else than "${id}": ${message}`;
    emit({ type: 'message', level: 'warning', message: warning });
  }
}
