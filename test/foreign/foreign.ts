// Imports in tests: the program that a text becomes, checked, and what of it is not the default.

import { expect } from 'vitest';
import { importText } from '../../src/foreign/import.ts';
import { nowhere, type Surroundings } from '../../src/foreign/recipe.ts';
import { compile } from '../../src/parser/check.ts';
import { format } from '../../src/parser/format/format.ts';
import type { BlockKind, BlockOf, CheckedProgram } from '../../src/parser/model.ts';

export interface ImportedProgram {
  readonly text: string;
  readonly program: CheckedProgram;
  /** Names of what could not be carried over. */
  readonly lost: readonly string[];
}

/** The program has to check without errors. */
export function imported(text: string, around: Partial<Surroundings> = {}): ImportedProgram {
  const result = importText(text, { ...nowhere, ...around });
  if ('problem' in result) throw new Error(`${result.problem} (${result.hint})`);
  expect(format(result.program).text).toBe(result.program);
  const { program, diagnostics } = compile({ path: 'test.lora', text: result.program }, { params: new Map() });
  const errors = diagnostics.filter(({ severity }) => severity === 'error');
  expect(errors.map(({ message }) => `${message}\n${result.program}`)).toEqual([]);
  return {
    text: result.program,
    program: program as CheckedProgram,
    lost: result.draft.lost.map(({ name }) => name),
  };
}

export function blockIn<K extends BlockKind>({ program }: ImportedProgram, kind: K, name?: string): BlockOf<K> {
  const found = program.blocks.find((block) => block.kind === kind && (name === undefined || block.name === name));
  if (found === undefined) throw new Error(`There is no ${kind} block.`);
  return found as BlockOf<K>;
}

/** A command with the least that names a training, and more flags. */
export const command = (flags: string) =>
  `accelerate launch sdxl_train_network.py --pretrained_model_name_or_path=m.safetensors --train_data_dir=d --resolution=1024 --enable_bucket --max_bucket_reso 2048 ${flags}`;

/** The training that a command with these flags becomes. */
export const trainOf = (flags: string) => blockIn(imported(command(flags)), 'train').attributes;
export const datasetOf = (flags: string) => blockIn(imported(command(flags)), 'dataset').attributes;
export const lostOf = (flags: string) => imported(command(flags)).lost;
