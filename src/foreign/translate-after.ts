// What follows a training: the recipe of resize_lora.py and the vector of chop_blocks.py where they were pasted with it,
// and the file at the end.

import { resize as resizeFields } from '../parser/schema/surgery.ts';
import { type DraftBlock, fitted, isWritable, put, type Values } from './draft.ts';
import type { Recipe } from './recipe.ts';

/** `trained` is the LoRA that the other trainer would have put there: the last step, or an average. */
export function afterTraining(recipe: Recipe, trained: string, target: string): readonly DraftBlock[] {
  const blocks: DraftBlock[] = [];
  let last = trained;
  if (recipe.resize !== undefined) {
    blocks.push({ kind: 'resize', name: 'small', values: resizing(recipe.resize, last) });
    last = 'small';
  }
  if (recipe.chop !== undefined && isWritable(recipe.chop)) {
    const values: Values = new Map();
    put(values, 'from', last);
    const kept = keptBlocks(recipe.chop);
    if (kept === undefined) put(values, 'mask', recipe.chop);
    else put(values, 'keep', kept);
    blocks.push({ kind: 'chop', name: 'tiny', values });
    last = 'tiny';
  }
  const values: Values = new Map();
  put(values, 'from', last);
  return [...blocks, { kind: 'save', name: target, values }];
}

/** `fro_ckpt=1,thr=-3.55`: the first of several recipes. */
function resizing(recipe: string, from: string): Values {
  const values: Values = new Map();
  put(values, 'from', from);
  for (const pair of (recipe.split(':')[0] ?? '').split(',')) {
    const [name = '', value = ''] = pair.split('=');
    const row = Object.hasOwn(resizeFields, name) ? resizeFields[name as keyof typeof resizeFields] : undefined;
    const fitting = row === undefined ? undefined : fitted(row.type, value);
    put(values, name, fitting);
  }
  return values;
}

/** The blocks that a vector of chop_blocks.py counts, for a LoRA with convolutions. */
const counted = [
  ...Array.from({ length: 8 }, (_, at) => `IN0${at + 1}`),
  ...Array.from({ length: 3 }, (_, at) => `MID0${at}`),
  ...Array.from({ length: 9 }, (_, at) => `OUT0${at}`),
];

/** A list says it better than 21 numbers, where each of them is 0 or 1. */
function keptBlocks(vector: string): readonly string[] | undefined {
  const [first, ...weights] = vector.split(',').map(Number);
  if (first !== 1 || weights.length !== counted.length || weights.some((one) => one !== 0 && one !== 1))
    return undefined;
  const kept = counted.filter((_, at) => weights[at] === 1);
  return kept.length === 0 ? undefined : kept;
}
