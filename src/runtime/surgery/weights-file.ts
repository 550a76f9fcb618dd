// Weights files as the native stages open and change them: what cannot be read becomes the stage's failure,
// and what was done is written into the metadata, the same for the same work.

import { StageFailure } from '../events.ts';
import type { Json } from '../graph/json.ts';
import { type Damage, SafetensorsError } from '../safetensors/error.ts';
import { SafetensorsFile } from '../safetensors/file.ts';
import { type Limits, LORA_LIMITS } from '../safetensors/header.ts';
import type { Metadata } from '../safetensors/layout.ts';

/** Opens a LoRA, or another file that has no reason to be larger in kind. */
export function openLora(path: string): Promise<SafetensorsFile> {
  return openWeights(path, LORA_LIMITS);
}

export async function openWeights(path: string, limits: Limits): Promise<SafetensorsFile> {
  try {
    return await SafetensorsFile.open(path, limits);
  } catch (error) {
    if (error instanceof SafetensorsError) throw unreadable(error);
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new StageFailure({ kind: 'bad-input', message: `"${path}" does not exist.` });
    if (code === 'EACCES') throw new StageFailure({ kind: 'bad-input', message: `"${path}" may not be read.` });
    throw error;
  }
}

/** Also for what is noticed while a file is read: it may become shorter. */
export function unreadable({ message, damage }: SafetensorsError): StageFailure {
  return new StageFailure({ kind: 'bad-input', message, hint: HINTS[damage] });
}

const HINTS: { readonly [damage in Damage]: string } = {
  'cut-off': 'The file was not copied or downloaded to its end; fetch it again.',
  'other-format': 'lorac reads .safetensors files only.',
  malformed: 'The file is damaged, or what wrote it was wrong; fetch it again.',
};

/** Metadata with one more entry of what was done to the file: a JSON list, the oldest first. */
export function withHistory(metadata: Metadata | undefined, entry: Json): Map<string, string> {
  const earlier = parseList(metadata?.get('lorac.history'));
  return new Map([...(metadata ?? []), ['lorac.history', JSON.stringify([...earlier, entry])]]);
}

function parseList(text: string | undefined): readonly unknown[] {
  if (text === undefined) return [];
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

/** `a, b, c and 14 more`: enough to know what is meant, never a screenful. */
export function listed(names: readonly string[], shown = 4): string {
  const more = names.length - shown;
  return more <= 1 ? names.join(', ') : `${names.slice(0, shown).join(', ')} and ${more} more`;
}
