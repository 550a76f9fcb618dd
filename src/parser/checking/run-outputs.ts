// `report.text`: a file that a run writes, as other blocks name it; `raw.montage`: a picture that a training makes.

import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Name } from '../reading/ast.ts';
import type { Type } from '../schema/types.ts';
import type { Span } from '../source.ts';
import type { Reference, RunOutput } from '../values.ts';
import { attributesOf } from './extending.ts';
import { type NamedBlock, resolve, type Scope } from './scope.ts';

/** A run or a training, and which of its outputs a word means: `undefined` where it names the run alone. */
export interface NamedRun {
  readonly block: NamedBlock;
  readonly output: string | undefined;
}

/** `whole`: the block that the word names as it is. `undefined` for a word that names a block, or nothing at all. */
export function runNamed(scope: Scope, { text, span }: Name, whole: NamedBlock | undefined): NamedRun | undefined {
  if (whole !== undefined) return whole.kind === 'run' ? { block: whole, output: undefined } : undefined;
  const dot = text.lastIndexOf('.');
  const block = dot < 0 ? undefined : scope.blockNamed({ text: text.slice(0, dot), span });
  return block?.kind === 'run' || block?.kind === 'train' ? { block, output: text.slice(dot + 1) } : undefined;
}

interface OutputToCheck {
  readonly type: Extract<Type, { kind: 'reference' }>;
  /** The attribute that asks. */
  readonly name: string;
  readonly run: NamedRun;
  /** As it is written. */
  readonly word: string;
  readonly span: Span;
}

export function checkOutput(scope: Scope, { type, name, run, word, span }: OutputToCheck): Reference | undefined {
  const { block } = run;
  const definedAt = block.span;
  // Wherever a LoRA can stand, one that a run has written can.
  const takesLora = type.to.includes('lora');
  if (!type.to.includes('run') && !takesLora) {
    const { kind } = block;
    scope.report(problem.wrongKind(span, { attribute: name, needed: type.to, name: word, kind, definedAt }));
    return undefined;
  }
  const outputs = outputsOf(scope, block);
  // What is wrong with them is told where they are written.
  if (outputs === undefined) return undefined;
  const written = run.output === undefined ? word : word.slice(0, word.lastIndexOf('.'));
  const names = outputs.map((output) => `${written}.${output.name}`);
  const output = outputs.find((one) => one.name === run.output);
  if (output === undefined) {
    const meant = run.output !== undefined ? nearest(word, names) : names.length === 1 ? names[0] : undefined;
    const isTraining = block.kind === 'train';
    scope.report(problem.noOutput(span, { run: written, isTraining, output: run.output, names, meant }));
    return undefined;
  }
  if (!type.to.includes('run') && output.suffix !== '.safetensors') {
    scope.report(problem.noLoraOutput(span, { attribute: name, output: word, suffix: output.suffix, definedAt }));
    return undefined;
  }
  scope.ask(block);
  return { kind: 'reference', block: block.name, output, span };
}

/** What shows the pictures of a training together, where it makes some. */
export const trainingPictures: readonly RunOutput[] = [
  { name: 'montage', suffix: '.png' },
  { name: 'animation', suffix: '.webp' },
];

/** Read where they are written: a run may stand behind what names it. */
function outputsOf(scope: Scope, { kind, statement }: NamedBlock): readonly RunOutput[] | undefined {
  if (kind === 'train') {
    const isPictured = statement && attributesOf(scope, statement).some(({ name }) => name.text === 'sample');
    return isPictured ? trainingPictures : [];
  }
  const written = statement && attributesOf(scope, statement).find(({ name }) => name.text === 'outputs');
  const value = written && resolve(scope, written.value, () => false)?.value;
  if (value?.kind !== 'record') return undefined;
  return value.entries.map(({ name, value: path }) => {
    const text = resolve(scope, path, () => false)?.value;
    const end = text?.kind === 'text' ? text.parts.at(-1) : undefined;
    const [suffix = ''] = /\.\w+$/.exec(typeof end === 'string' ? end : '') ?? [];
    return { name: name.text, suffix: suffix.toLowerCase() };
  });
}
