// Pictures of prompts as stored entries: known by the LoRA, the checkpoint, the prompt and how it is computed.
// Training makes the same pictures as it goes, and publishes them under the same fingerprints.

import type { Digest } from '../cache/digest.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf } from '../cache/fingerprint.ts';
import type { Store } from '../cache/store.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { lockedTools } from '../worker/lock-file.ts';
import type { SamplePrompt } from '../worker/protocol.ts';

/** Raise it when the same LoRA and prompt should give another picture. */
const ENTRY_REVISION = 1;

export interface Picture {
  readonly lora: Digest;
  readonly checkpoint: Digest;
  readonly prompt: SamplePrompt;
  readonly mixed_precision: 'bf16' | 'fp32';
}

/** The picture's digest, where it is stored. */
export async function findPicture(store: Store, picture: Picture): Promise<Digest | undefined> {
  const entry = await store.lookupEntry(identify(picture).fingerprint);
  return entry?.outputs.picture?.digest;
}

/** Moves a finished PNG into the store. Another one that was there before stays, and is what is returned. */
export async function publishPicture(store: Store, picture: Picture, path: AbsolutePath): Promise<Digest> {
  const { fingerprint, key } = identify(picture);
  const entry = await store.publishEntry(fingerprint, key, { picture: path });
  const published = entry.outputs.picture;
  if (published === undefined) throw new Error('Internal error: a stored picture has no picture.');
  return published.digest;
}

/** The packages that a picture depends on. */
export function pictureTools() {
  return lockedTools(['torch', 'diffusers', 'transformers', 'pillow', 'tokenizers']);
}

/** The steps after which pictures are made: every so many, and the last. */
export function pictureSteps({ every, steps }: { readonly every: number; readonly steps: number }): readonly number[] {
  const regular = Array.from({ length: Math.floor((steps - 1) / every) }, (_, index) => (index + 1) * every);
  return [...regular, steps];
}

/** How the copy for the user is called. */
export function pictureName(step: number, index: number): string {
  return `${String(step).padStart(6, '0')}-${String(index).padStart(2, '0')}.png`;
}

function identify(picture: Picture): { readonly key: FingerprintKey; readonly fingerprint: Fingerprint } {
  const { lora, checkpoint, prompt, mixed_precision } = picture;
  const key: FingerprintKey = {
    stage: 'picture',
    revision: ENTRY_REVISION,
    tools: pictureTools(),
    attributes: { prompt: { ...prompt }, mixed_precision },
    inputs: { lora, checkpoint },
  };
  return { key, fingerprint: fingerprintOf(key) };
}
