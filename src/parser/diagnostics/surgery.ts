// Problems with what is done to LoRAs, sorted by code: chop, merge, resize, preview, analyze and save.

import { isLayerPattern } from '../blocks.ts';
import type { Name } from '../reading/ast.ts';
import type { Span } from '../source.ts';
import { enumerate } from './describe.ts';
import { type Diagnostic, error, type Related, replace, warning } from './diagnostic.ts';

/** A LoRA and the checkpoint it was trained on, by the names of their blocks. */
export interface BaseOfLora {
  readonly lora: string;
  readonly base: string;
}

const ofCheckpoint = ({ lora, base }: BaseOfLora) => `"${lora}" of "${base}"`;

export function chopChoice(block: Span, written: readonly Name[]): Diagnostic {
  const [first, ...rest] = written;
  if (first === undefined) {
    return error('chop-choice', block, {
      message: 'This chop does not say which blocks to keep.',
      hint: 'Write one of keep, drop, mask and weights, for example: keep = [OUT01]',
    });
  }
  return error('chop-choice', (rest[0] ?? first).span, {
    message: `${enumerate(written.map((name) => `"${name.text}"`))} both say which blocks to keep.`,
    related: [{ message: `"${first.text}" is written here`, span: first.span }],
    hint: 'Keep one of them.',
  });
}

/** `what` is an item as a message quotes it, `name` the attribute that has it twice. */
export function duplicateItem(
  span: Span,
  { name, what, first }: { readonly name: string; readonly what: string; readonly first: Span },
): Diagnostic {
  return error('duplicate-item', span, {
    message: `${what} stands twice in "${name}".`,
    related: [{ message: 'First written here', span: first }],
    hint: 'Keep one of them.',
  });
}

export function emptyList(span: Span, name: string, wanted: string): Diagnostic {
  return error('empty-list', span, {
    message: `"${name}" needs ${wanted}, and this has nothing in it.`,
    hint: 'Write at least one between the brackets.',
  });
}

export function formatOfPicture(span: Span, from: string): Diagnostic {
  return error('format-of-picture', span, {
    message: `"format" says what modules of a LoRA are called, and "${from}" is a picture.`,
    hint: 'Leave it out.',
  });
}

export function maskEntry(span: Span, entry: string): Diagnostic {
  return error('mask-entry', span, {
    message: entry === '' ? 'There is no number here.' : `"${entry}" is not a number.`,
    hint: 'A mask is numbers with commas between them: "1,0,0,…".',
  });
}

export function maskFirst(span: Span, weight: number): Diagnostic {
  return warning('mask-first', span, {
    message: `The first number, ${weight}, is taken as the weight of all that lies outside the blocks (the text encoders), as ComfyUI does. chop_blocks takes it as a factor on the blocks instead.`,
    hint: 'With 1 in front both agree. Write text_encoders to weigh the text encoders.',
  });
}

export function maskLength(span: Span, length: number): Diagnostic {
  return error('mask-length', span, {
    message: `This mask has ${length} number${length === 1 ? '' : 's'}, and masks have 12, 20 or 21.`,
    hint: 'Naming the blocks does the same: keep = [OUT01]',
  });
}

/** `bases`: each LoRA with its checkpoint; the first is what counts further on. */
export function mergedBases(span: Span, name: string, bases: readonly BaseOfLora[]): Diagnostic {
  const [first] = bases;
  return warning('merged-bases', span, {
    message: `"${name}" adds up LoRAs of different checkpoints: ${enumerate(bases.map(ofCheckpoint))}.`,
    hint: first && `Where a base is asked for, it is "${first.base}".`,
  });
}

export interface MissingBase {
  /** The lora block that does not name its checkpoint. */
  readonly lora: string;
  readonly header: Span;
  /** Who asks for it, where, and what for. */
  readonly asking: readonly (Related & { readonly block: string })[];
  readonly checkpoints: readonly string[];
  /** Behind the brace of the lora block; `undefined` where it cannot be found. */
  readonly inside: Span | undefined;
}

export function noBase({ lora, header, asking, checkpoints, inside }: MissingBase): Diagnostic {
  const [only, ...others] = checkpoints;
  const choice = others.length === 0 ? `base = ${only}` : `base = …, which is ${enumerate(checkpoints, 'or')}`;
  const who = [...new Set(asking.map(({ block }) => `"${block}"`))];
  return error('no-base', header, {
    message: `"${lora}" does not say which checkpoint it was trained on, and ${enumerate(who)} ${who.length === 1 ? 'needs' : 'need'} to know.`,
    related: asking.map(({ message, span }) => ({ message, span })),
    hint:
      only === undefined
        ? 'Add a block, checkpoint base { path = "…" }, and write base = base here.'
        : `Write ${choice}`,
    fix: only !== undefined && others.length === 0 && inside ? replace(inside, ` base = ${only} `) : undefined,
  });
}

export function noPicture(span: Span, analysis: { readonly name: string; readonly span: Span }): Diagnostic {
  return error('no-picture', span, {
    message: `"${analysis.name}" makes no picture, since it has no prompts.`,
    related: [{ message: `"${analysis.name}" is defined here`, span: analysis.span }],
    hint: 'Write prompts = "prompts.txt" there.',
  });
}

export function rankOrder(span: Span, min: number, max: number): Diagnostic {
  return error('rank-order', span, {
    message: `"min_rank" is ${min}, and "max_rank" is ${max}.`,
    hint: 'min_rank must not be above max_rank.',
  });
}

export function saveName(name: Name): Diagnostic {
  const path = `"${name.text.replace(/\.safetensors$/, '')}.safetensors"`;
  return error('save-name', name.span, {
    message: 'A save block is named by the path it saves to, in quotes.',
    hint: `Write save ${path} { … }`,
    fix: replace(name.span, path),
  });
}

/** `isPicture`: what is saved is one, and no LoRA. */
export function savePath(span: Span, path: string, isPicture: boolean): Diagnostic {
  const suffix = isPicture ? '.png' : '.safetensors';
  const better = /\.\w{1,12}$/.test(path) ? path.replace(/\.\w+$/, suffix) : `${path}${suffix}`;
  return error('save-path', span, {
    message: `${isPicture ? 'Pictures' : 'LoRAs'} are saved as ${suffix} files, and "${path}" is none.`,
    hint: `Write "${better}"`,
  });
}

export function scoreSum(span: Span, keys: readonly string[]): Diagnostic {
  return error('score-sum', span, {
    message: `The weights of ${enumerate(keys)} add up to 0, so there is no score to go by.`,
    hint: 'The weights are divided by their sum. Change one of them.',
  });
}

export function thrAndSize(thr: Span, size: Span): Diagnostic {
  return error('thr-and-size', size, {
    message: '"thr" and "size" both say how much to keep.',
    related: [{ message: '"thr" is written here', span: thr }],
    hint: 'Keep one of them.',
  });
}

export function twoBases(span: Span, name: string, bases: readonly BaseOfLora[]): Diagnostic {
  return error('two-bases', span, {
    message: `"${name}" shows LoRAs of different checkpoints: ${enumerate(bases.map(ofCheckpoint))}.`,
    hint: `Say which one renders the pictures: base = ${bases[0]?.base}`,
  });
}

export function unknownBlock(span: Span, text: string): Diagnostic {
  return error('unknown-block', span, {
    message: `The network has no block "${text}".`,
    hint: 'Blocks are IN00–IN08, MID00–MID02, OUT00–OUT08, TE1, TE2 and REST; IN, MID and OUT stand for all of theirs. Layers of the text encoders are TE1.0–TE1.11 and TE2.0–TE2.31.',
  });
}

/** Where a key may be a block or a pattern of layers' names. */
export function unknownLayer(span: Span, text: string): Diagnostic {
  const underscored = text.replaceAll('.', '_');
  if (!isLayerPattern(underscored)) {
    const { hint, ...block } = unknownBlock(span, text);
    return { ...block, hint: `${hint} Other layers go by their names in LoRA files: "lora_unet_output_blocks_1_*".` };
  }
  return error('unknown-block', span, {
    message: `The network has no block "${text}", and names of layers have no dots.`,
    hint: `Write "${underscored}", as LoRA files have it.`,
    fix: replace(span, `"${underscored}"`),
  });
}

export function zeroStrength(span: Span): Diagnostic {
  return error('zero-strength', span, {
    message: 'At strength 0 a LoRA does nothing.',
    hint: 'without = true, the default, shows each prompt without a LoRA. Leave the 0 out.',
  });
}

export function zeroWeight(span: Span, name: string): Diagnostic {
  return error('zero-weight', span, {
    message: `With weight 0, "${name}" adds nothing.`,
    hint: 'Leave it out.',
  });
}
