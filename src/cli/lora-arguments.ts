// The LoRAs that a command line names: a file, or several to be added up, each with its weight:
// hero.safetensors:0.5,style.safetensors:0.5

import { existsSync, statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { cleanLine } from '../parser/clean-text.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import { whatFile } from '../runtime/inspect/what-file.ts';
import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import { type CanonicalLora, canonicalLora, fileTensors, leavesAsItIs } from '../runtime/surgery/canonical.ts';
import { openLora } from '../runtime/surgery/weights-file.ts';
import { noSuchFile } from './no-such-file.ts';
import { UsageError } from './usage-error.ts';
import { readWeightedPath } from './weighted-path.ts';

export interface LoraPart {
  readonly path: AbsolutePath;
  readonly weight: number;
}

/** What its header says about a LoRA file. */
export interface LoraHeader {
  /** Whether stages can read it as it is. */
  readonly isCanonical: boolean;
  readonly generation: CanonicalLora['generation'];
  /** Whether names and shapes say so, whatever the metadata says. */
  isSurelySdxl(): boolean;
  readonly families: ReadonlySet<string>;
}

/** Throws `UsageError` for what names no file. A file whose name looks like a sum is that file. */
export function readLoraArgument(text: string): readonly LoraPart[] {
  if (existsSync(text)) return [{ path: fileAt(text), weight: 1 }];
  const parts = text.split(',').map((part) => {
    const { path, weight } = readWeightedPath(part);
    return { path: fileAt(path), weight };
  });
  const twice = parts.find(({ path }, index) => parts.findIndex((part) => part.path === path) !== index);
  if (twice) throw new UsageError(`In "${text}" there is "${twice.path}" twice.`, 'give it the sum of its weights');
  return parts;
}

export function fileAt(path: string): AbsolutePath {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile()) return absolutePath(resolve(path));
  if (found === undefined) throw noSuchFile(path);
  if (found.isDirectory()) throw new UsageError(`"${path}" is a folder.`, 'name a .safetensors file in it');
  throw new UsageError(`"${path}" is not a file.`);
}

/** Throws `UsageError` for a file that is no LoRA, and a `StageFailure` for one that cannot be read. */
export async function readLoraHeader(path: AbsolutePath): Promise<LoraHeader> {
  await using file = await openLora(path);
  const lora = canonicalLora(fileTensors(file));
  const { generation, isSurelySdxl, modules } = lora;
  if (modules.length === 0) throw noLora(file);
  const families = new Set(modules.map(({ family }) => family));
  return { isCanonical: leavesAsItIs(file, lora), generation, isSurelySdxl, families };
}

function noLora(file: SafetensorsFile): UsageError {
  const what = whatFile(file);
  // What is said of other models is about the checkpoint that they are not.
  if (what.kind === 'other' && what.message.endsWith('not a LoRA')) {
    return new UsageError(cleanLine(`"${file.path}" ${what.message}.`), what.hint);
  }
  return new UsageError(`"${file.path}" is no LoRA: it has no modules.`, 'the base comes first, then LoRAs');
}

/** What the sum is called: `hero0.5+style0.5`. */
export function sumName(parts: readonly LoraPart[], nameOf: (path: AbsolutePath) => string): string {
  return parts.map(({ path, weight }) => `${nameOf(path)}${weight === 1 ? '' : weight}`).join('+');
}

/** A file's name without its folder and suffix. */
export function stemOf(path: AbsolutePath): string {
  return basename(path).replace(/\.[^.]*$/, '');
}
