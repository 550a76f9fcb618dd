// The decomposition of a LoRA file that some earlier work left in a store, found by what the file holds and not by its
// name: in the user's store, in the one of a program beside the file, or in that of the folder one is in.

import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Digest } from '../runtime/cache/digest.ts';
import { type FingerprintKey, fingerprintOf } from '../runtime/cache/fingerprint.ts';
import { Store } from '../runtime/cache/store.ts';
import { ownPart } from '../runtime/executor/examine.ts';
import type { AbsolutePath, GraphNode, NodeId } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { readSpectra, type Spectrum } from '../runtime/inspect/spectra.ts';
import { SafetensorsError } from '../runtime/safetensors/error.ts';
import { SafetensorsFile } from '../runtime/safetensors/file.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import type { Stage } from '../runtime/stage.ts';
import { decompose } from '../runtime/stages/decompose.ts';
import { lora } from '../runtime/stages/lora.ts';
import { userStoreFolder } from './user-store.ts';

export interface StoredSpectra {
  readonly store: AbsolutePath;
  readonly spectra: ReadonlyMap<string, Spectrum>;
}

/** `undefined` where no store has one. `digest` is that of the file, if it is known already. */
export async function storedSpectra(
  path: string,
  known: Digest | undefined,
  signal: AbortSignal,
): Promise<StoredSpectra | undefined> {
  const file = absolutePath(resolve(path));
  const folders = [userStoreFolder(), pathIn(dirname(file) as AbsolutePath, '.lorac'), absolutePath(resolve('.lorac'))];
  for (const folder of new Set(folders)) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    const store = new Store(folder);
    const digest = known ?? (await store.files.digestOf(file, { signal }));
    const factors = await storedFactors(store, digest);
    const spectra = factors && (await spectraIn(factors));
    if (spectra !== undefined) return { store: folder, spectra };
  }
  return undefined;
}

/** Of the file as it is, or of what the stage `lora` made of it where stages cannot read it so. */
async function storedFactors(store: Store, digest: Digest): Promise<AbsolutePath | undefined> {
  const resultOf = (stage: Stage, of: Digest) => store.lookupEntry(fingerprintOf(keyOf(stage, of)));
  const direct = await resultOf(decompose, digest);
  if (direct !== undefined) return direct.outputs.factors?.path;
  const adopted = (await resultOf(lora, digest))?.outputs.lora?.digest;
  return adopted && (await resultOf(decompose, adopted))?.outputs.factors?.path;
}

/** What a stage is known by in a store when it works on this LoRA alone. */
export function keyOf(stage: Stage, digest: Digest): FingerprintKey {
  const origin = { source: { path: 'lorac inspect', text: '' }, start: 0, end: 0 };
  const node: GraphNode = {
    ...{ id: stage.name as NodeId, origin, stage },
    ...{ attributes: {}, settings: {}, files: {}, inputs: {} },
  };
  return { ...ownPart(node), inputs: { lora: digest } };
}

/** `undefined` where the store's file is damaged: what it would have said can be measured. */
async function spectraIn(path: AbsolutePath): Promise<ReadonlyMap<string, Spectrum> | undefined> {
  try {
    await using factors = await SafetensorsFile.open(path, CHECKPOINT_LIMITS);
    return readSpectra(factors);
  } catch (error) {
    if (error instanceof SafetensorsError) return undefined;
    throw error;
  }
}
