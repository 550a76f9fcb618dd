// Where an analysis goes, and that one in numbers does not replace one with pictures, whose ablation may have taken hours.

import { readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { GRID, REPORT } from './analyze-graph.ts';
import { stemOf } from './lora-arguments.ts';
import { UsageError } from './usage-error.ts';

/** The folder that is named, else one beside the LoRA. */
export function analysisFolder(named: string | undefined, lora: AbsolutePath): AbsolutePath {
  if (named === undefined) return pathIn(absolutePath(dirname(lora)), `${stemOf(lora)}-analysis`);
  if (statSync(named, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new UsageError(`"${named}" is not a folder.`, '-o names the folder that gets report.json and grid.png');
  }
  return absolutePath(resolve(named));
}

/** Throws a `UsageError` where the folder has an analysis with pictures. */
export function refuseToLosePictures(folder: AbsolutePath): void {
  if (!hasPictures(folder)) return;
  throw new UsageError(
    `"${pathIn(folder, REPORT)}" tells what pictures showed, and without prompts there would be numbers alone.`,
    'name another folder with -o, give the prompts again, or --overwrite it with numbers',
  );
}

/** The grid of an analysis that was overwritten in numbers would be one of another report. */
export function removeGrid(folder: AbsolutePath): void {
  rmSync(pathIn(folder, GRID), { force: true });
}

export function hasPictures(folder: AbsolutePath): boolean {
  try {
    const report: unknown = JSON.parse(readFileSync(pathIn(folder, REPORT), 'utf8'));
    return typeof report === 'object' && report !== null && 'ablation' in report && report.ablation !== null;
  } catch {
    // None, or one of something else, which is not replaced unasked either.
    return false;
  }
}
