// Pictures of prompts as stored entries: known by the LoRA and how it acts, the checkpoint, the prompt and how it is
// computed. Training, previews and ablations publish under the same fingerprints, so each finds what another has made.

import type { Digest } from '../../cache/digest.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf } from '../../cache/fingerprint.ts';
import type { Store } from '../../cache/store.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import { lockedTools } from '../../worker/lock-file.ts';
import type { DiffusionProcess, Fp8Base, SamplePrompt } from '../../worker/protocol.ts';

/** Raise it when the same LoRA and prompt should give another picture. */
const ENTRY_REVISION = 2;

/** A LoRA as it acts in a picture. */
export interface ActingLora {
  readonly digest: Digest;
  /** ΔW is multiplied by it. */
  readonly strength: number;
  /** Weights by block, those that are not named being 0; `null`: every block acts in full. */
  readonly blocks: { readonly [block: string]: number } | null;
}

export interface Picture {
  /** `null`: the bare checkpoint. */
  readonly lora: ActingLora | null;
  readonly checkpoint: Digest;
  readonly prompt: SamplePrompt;
  readonly mixed_precision: 'bf16' | 'fp32';
  /** Where the base's weights are stored in 8 bits. */
  readonly fp8_base?: Fp8Base | undefined;
  /** What the program says of the checkpoint, where it does. */
  readonly process?: DiffusionProcess | undefined;
}

/** The LoRA as it is, all of it. */
export function wholeLora(digest: Digest): ActingLora {
  return { digest, strength: 1, blocks: null };
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

/** The steps after which pictures are made: 0 where it is asked for, every so many, and the last. */
export function pictureSteps({
  at_first,
  every,
  steps,
}: {
  readonly at_first: boolean;
  readonly every: number;
  readonly steps: number;
}): readonly number[] {
  const regular = Array.from({ length: Math.floor((steps - 1) / every) }, (_, index) => (index + 1) * every);
  return [...(at_first ? [0] : []), ...regular, steps];
}

/** How the copy for the user is called. */
export function pictureName(step: number, index: number): string {
  return `${String(step).padStart(6, '0')}-${String(index).padStart(2, '0')}.png`;
}

/** Equal for pictures that are equal: a LoRA that does nothing is none, and a block that does nothing is not named. */
export function identify(picture: Picture): { readonly key: FingerprintKey; readonly fingerprint: Fingerprint } {
  const { checkpoint, prompt, mixed_precision, fp8_base = 'off', process } = picture;
  const lora = acting(picture.lora);
  const key: FingerprintKey = {
    stage: 'picture',
    revision: ENTRY_REVISION,
    tools: pictureTools(),
    attributes: {
      prompt: { ...prompt },
      mixed_precision,
      ...(fp8_base !== 'off' && { fp8_base }),
      ...(process !== undefined && { process: { ...process } }),
      ...(lora !== null && lora.strength !== 1 && { strength: lora.strength }),
      ...(lora !== null && lora.blocks !== null && { blocks: lora.blocks }),
    },
    inputs: lora === null ? { checkpoint } : { lora: lora.digest, checkpoint },
  };
  return { key, fingerprint: fingerprintOf(key) };
}

/** Without what does nothing; `null` when that is all of it. */
export function acting(lora: ActingLora | null): ActingLora | null {
  if (lora === null || lora.strength === 0) return null;
  if (lora.blocks === null) return lora;
  const named = Object.entries(lora.blocks).filter(([, weight]) => weight !== 0);
  return named.length === 0 ? null : { ...lora, blocks: Object.fromEntries(named) };
}
