// A weighted sum of LoRA files, written as one: what the stage and the command share.
//
// The inputs may be spelt as any trainer does. One module after the other is read and written, so memory does not grow with the files.
// Everything that cannot be summed is found before anything is written, all of it at once.

import type { LoraFormat } from '../../../parser/lora-formats.ts';
import { StageFailure } from '../../events.ts';
import { type TensorToWrite, writeSafetensors } from '../../safetensors/writer.ts';
import type { LoraTensors } from '../canonical.ts';
import { inFormat } from '../in-format.ts';
import { listed } from '../weights-file.ts';
import { type MergeContent, type MergeInput, readContent } from './input.ts';
import { mergedMetadata } from './metadata.ts';
import { type MergedModule, mergeModule, type Part } from './modules.ts';
import { DTYPES, type Precision } from './numbers.ts';
import { Unmergeable } from './shape.ts';

export interface MergeOptions {
  readonly output: string;
  readonly precision: Precision;
  readonly format: LoraFormat;
  /** What the file calls itself; without it, as the first input does. */
  readonly title?: string;
  readonly signal: AbortSignal;
  warn(message: string): void;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/** What was written. */
export interface Merged {
  /** In several inputs, and in only one of them. */
  readonly summed: number;
  readonly single: number;
  /** How many modules have which form: `LoRA`, `diff`, `LoHa` … */
  readonly forms: ReadonlyMap<string, number>;
  /** The smallest and the largest rank of LoRAs. */
  readonly ranks: readonly [number, number] | undefined;
  readonly sizeBytes: number;
}

/** Throws a `StageFailure` where the files cannot be summed. */
export async function mergeFiles(inputs: readonly MergeInput[], options: MergeOptions): Promise<Merged> {
  const { output, precision, format, title, signal, warn, onProgress } = options;
  const contents = await Promise.all(inputs.map(readContent));
  refuseDifferentBases(contents);
  const parts = partsByName(contents);
  const modules = mergeAll(parts, precision);
  if (modules.size === 0) {
    throw new StageFailure({ kind: 'nothing-left', message: 'Nothing would be left: no input does anything.' });
  }
  for (const message of oddities(contents)) warn(message);
  const merged = [...modules.values()];
  const lora: LoraTensors = {
    path: output,
    tensors: [...merged.flatMap(({ tensors }) => tensors), ...strangersOf(contents)],
    metadata: mergedMetadata(contents, { modules: merged, precision, title }),
  };
  const sizeBytes = await writeSafetensors({
    path: output,
    ...(await inFormat(lora, format)),
    hashes: true,
    signal,
    ...(onProgress && { onProgress }),
  });
  const summed = [...modules.keys()].filter((name) => (parts.get(name)?.length ?? 0) > 1).length;
  const ranks = merged.flatMap(({ form, rank }) => (form === 'LoRA' && rank !== undefined ? [rank] : []));
  return {
    summed,
    single: modules.size - summed,
    forms: tally(merged.map(({ form }) => form)),
    ranks: ranks.length === 0 ? undefined : [Math.min(...ranks), Math.max(...ranks)],
    sizeBytes,
  };
}

function refuseDifferentBases(contents: readonly MergeContent[]): void {
  const known = contents.filter(({ base }) => base.base !== 'unknown');
  const [first] = known;
  const other = known.find(({ base }) => base.base !== first?.base.base);
  if (first === undefined || other === undefined) return;
  const [a, b] = [first, other].map(({ source, base }) => `"${source.label}" is for ${base.base} (${base.because})`);
  throw new StageFailure({
    kind: 'bad-input',
    message: `LoRAs for different models cannot be merged: ${a}, and ${b}.`,
    hint: 'Merge LoRAs that were trained on the same kind of model.',
  });
}

function partsByName(contents: readonly MergeContent[]): ReadonlyMap<string, readonly Part[]> {
  const parts = new Map<string, Part[]>();
  for (const { source, modules } of contents) {
    for (const facts of modules) {
      const { name } = facts.module;
      parts.set(name, [...(parts.get(name) ?? []), { source, facts }]);
    }
  }
  return parts;
}

/** All that cannot be summed is told at once. */
function mergeAll(
  parts: ReadonlyMap<string, readonly Part[]>,
  precision: Precision,
): ReadonlyMap<string, MergedModule> {
  const modules = new Map<string, MergedModule>();
  const refused: { readonly path: string; readonly message: string; readonly hint: string }[] = [];
  for (const [name, those] of parts) {
    try {
      const merged = mergeModule(name, those, DTYPES[precision]);
      if (merged !== undefined) modules.set(name, merged);
    } catch (error) {
      if (!(error instanceof Unmergeable)) throw error;
      refused.push({ path: name, message: error.message, hint: error.hint });
    }
  }
  const [first] = refused;
  if (first === undefined) return modules;
  const others = refused.length - 1;
  throw new StageFailure({
    kind: 'bad-input',
    message: `"${first.path}" ${first.message}${others === 0 ? '' : `; ${others} more ${others === 1 ? 'module' : 'modules'} cannot be merged either`}.`,
    hint: first.hint,
    problems: refused.slice(1, SHOWN).map(({ path, message }) => ({ path, message })),
  });
}

/** Enough to see what they have in common. */
const SHOWN = 9;

/** Tensors that are no part of any module, from the first file that has them. */
function strangersOf(contents: readonly MergeContent[]): readonly TensorToWrite[] {
  const tensors = new Map<string, TensorToWrite>();
  for (const { source, strangers } of contents) {
    for (const name of strangers) if (!tensors.has(name)) tensors.set(name, source.tensor(name));
  }
  return [...tensors.values()];
}

function oddities(contents: readonly MergeContent[]): readonly string[] {
  const said: string[] = [];
  const strangers = new Set(contents.flatMap((content) => content.strangers));
  if (strangers.size > 0) {
    const which = contents.length === 1 ? '' : ', from the first file that has them';
    said.push(`Kept as they are${which}, since they belong to no module: ${listed([...strangers])}.`);
  }
  const stated = contents.flatMap(({ metadata, source: { label } }) => {
    const version = metadata?.get('ss_base_model_version');
    return version === undefined ? [] : [{ label, version }];
  });
  if (new Set(stated.map(({ version }) => version)).size > 1) {
    const those = stated.map(({ label, version }) => `"${label}" ${version}`);
    said.push(`The files name different base models: ${listed(those)}. The result names the first.`);
  }
  return said;
}

function tally(words: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}
