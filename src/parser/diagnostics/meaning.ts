// Problems with what a program means, sorted by code.

import type { Expression, Name, QuantityExpression } from '../reading/ast.ts';
import { quote, snippet } from '../reading/literals.ts';
import type { NumberType, Type } from '../schema/types.ts';
import type { Span } from '../source.ts';
import { allKinds, blockNoun, enumerate, found, needs, rangeOf, referenceNoun, withArticle } from './describe.ts';
import { type Diagnostic, error, type Fix, type Related, replace, warning } from './diagnostic.ts';
import { howToSweep } from './sweep.ts';

/** A name that stands for a value: where it is used, and where it is defined. */
export interface Via {
  readonly name: string;
  readonly usedAt: Span;
  readonly definedAt: Span;
}

const definedHere = (via: Via | undefined): readonly Related[] =>
  via === undefined ? [] : [{ message: `"${via.name}" is defined here`, span: via.definedAt }];

/** `steps` are the places where each block of the cycle names the next. */
export function cycle(
  steps: readonly { readonly from: string; readonly to: string; readonly span: Span }[],
): Diagnostic {
  const [first, ...rest] = steps;
  if (first === undefined) throw new Error('Internal error: a cycle without steps');
  const names = [...steps.map((step) => step.from), first.from].map((name) => `"${name}"`).join(' → ');
  return error('cycle', first.span, {
    message: rest.length === 0 ? `"${first.from}" is made from itself.` : `These are made from each other: ${names}.`,
    related: rest.map((step) => ({ message: `"${step.from}" is made from "${step.to}" here`, span: step.span })),
    hint: 'One of them has to come from something else.',
  });
}

export function duplicateAttribute(name: Name, first: Span): Diagnostic {
  return error('duplicate-attribute', name.span, {
    message: `"${name.text}" is written twice.`,
    related: [{ message: 'First written here', span: first }],
    hint: 'Keep one of them.',
  });
}

export function duplicateName(name: Name, first: Span): Diagnostic {
  return error('duplicate-name', name.span, {
    message: `The name "${name.text}" is taken.`,
    related: [{ message: `"${name.text}" is first defined here`, span: first }],
    hint: 'Give one of them another name.',
  });
}

export function emptyText(span: Span, name: string): Diagnostic {
  return error('empty-text', span, {
    message: `"${name}" is empty.`,
    hint: 'Write it between the quotes, or take the attribute out where it has a default.',
  });
}

export function missingAttribute(
  owner: Span,
  details: { readonly owner: string; readonly name: string; readonly doc: string; readonly hint: string },
): Diagnostic {
  return error('missing-attribute', owner, {
    message: `${details.owner} has no "${details.name}". ${details.doc}`,
    hint: details.hint,
  });
}

export function noFunction(span: Span, name: string): Diagnostic {
  return error('no-function', span, {
    message: `There is no function "${name}": values are written out, or come from a let or a param.`,
    hint:
      name === 'sweep'
        ? howToSweep
        : 'The one function is env("NAME", "default"), which reads a variable of the environment.',
  });
}

export function noNorms(span: Span): Diagnostic {
  return error('no-norms', span, {
    message: '"train_norm" has nothing to train: there are no norms among the layers of preset attn-only.',
    hint: 'Write preset = attn-mlp, or leave train_norm out.',
  });
}

export function notComputable(span: Span): Diagnostic {
  return error('not-computable', span, {
    message: 'This has no finite result.',
    hint: 'Something is divided by 0, or a number becomes too large.',
  });
}

export function nothingAsked(span: Span): Diagnostic {
  return warning('nothing-asked', span, {
    message: 'This program has no blocks, so there is nothing to make.',
    hint: `The blocks are ${allKinds}.`,
  });
}

export function oddVariable(span: Span): Diagnostic {
  return error('odd-variable', span, {
    message: 'After "env" stand the name of a variable, in quotes, and perhaps a default: a number, text, or one word.',
    hint: 'Write env("NAME") or env("NAME", "default")',
  });
}

/** `written` is the text with its quotes. */
export function oddPath(span: Span, written: string): Diagnostic {
  if (written.includes('\0'))
    return error('odd-path', span, { message: 'This path has a character that no path can have.' });
  return error('odd-path', span, {
    message: 'This path has a line break or a tab in it, from "\\n" or "\\t".',
    hint: `Text with backslashes stands in single quotes: ${quote(written.slice(1, -1))}. Forward slashes work as well.`,
  });
}

export function outOfRange(span: Span, name: string, type: NumberType, value: number, via?: Via): Diagnostic {
  const isFraction = type.integer && !Number.isInteger(value);
  return error('out-of-range', span, {
    message: `"${name}" is ${isFraction ? 'a whole number' : rangeOf(type, value)}, and this is ${value}.`,
    related: definedHere(via),
  });
}

export function paramKind(span: Span, name: string, needed: Expression, definedAt: Span): Diagnostic {
  const wanted = needed.kind === 'word' && /^(?:true|false)$/.test(needed.text) ? 'true or false' : found(needed);
  return error('param-kind', span, {
    message: `The default of "${name}" is ${wanted}, and "${snippet(span)}" is not of that kind.`,
    related: [{ message: `"${name}" is defined here`, span: definedAt }],
  });
}

export function pickledFile(span: Span, path: string, isCheckpoint: boolean): Diagnostic {
  return error('pickled-file', span, {
    message: `"${path}" is a pickled file, and loading one runs its author's code.`,
    hint: isCheckpoint
      ? 'Most checkpoints are also published as .safetensors; converters make one of the other.'
      : 'Converters make a .safetensors file of it.',
  });
}

export function quotedName(span: Span, kind: string, name: string): Diagnostic {
  const isName = /^[A-Za-z_]\w*$/.test(name);
  // Others may refer to a name that had to change, so nobody but its author changes it.
  const word = name.replaceAll(/\W+/g, '_').replace(/^(?=\d)/, '_');
  return error('quoted-name', span, {
    message: `The name of a ${kind} block stands without quotes.`,
    hint: isName ? `Write ${kind} ${name} { … }` : `Names have letters, digits and "_": ${kind} ${word} { … }`,
    fix: isName ? replace(span, name) : undefined,
  });
}

export function repeatsOfFolders(span: Span, folders: Span | undefined): Diagnostic {
  return error('repeats-of-folders', span, {
    message:
      'With folders = kohya the name of each folder says how often its images are used, and "repeats" has no effect.',
    related: folders === undefined ? [] : [{ message: 'The folders count from here', span: folders }],
    hint: 'Leave it out, and write the number into the names of the folders: 5_fox.',
  });
}

export function samePath(span: Span, path: string, first: Span): Diagnostic {
  return error('same-path', span, {
    message: `Two blocks save to "${path}".`,
    related: [{ message: 'The first one', span: first }],
    hint: 'Give one of them another path.',
  });
}

/** `other.span` is `undefined` where it is the default. */
export function sameSeparator(
  span: Span,
  name: string,
  other: { readonly name: string; readonly span: Span | undefined },
): Diagnostic {
  return error('same-separator', span, {
    message: `"${name}" is the same text as "${other.name}".`,
    related: other.span === undefined ? [] : [{ message: `"${other.name}" is written here`, span: other.span }],
    hint: 'Choose a text that is in no tag, such as "|||" or ";;;".',
  });
}

export function tooComplex(span: Span): Diagnostic {
  return error('too-complex', span, {
    message: 'This stands for more than a program can hold, through names that use names.',
    hint: 'Write the value out, or take a name out of the chain.',
  });
}

export interface UnknownAttribute {
  readonly name: Name;
  /** "A train block", "SAVEUS". */
  readonly owner: string;
  readonly hint: string;
  readonly fix: Fix | undefined;
}

export function unknownAttribute({ name, owner, hint, fix }: UnknownAttribute): Diagnostic {
  return error('unknown-attribute', name.span, { message: `${owner} has no attribute "${name.text}".`, hint, fix });
}

export function unknownKind(kind: Name, meant: string | undefined): Diagnostic {
  return error('unknown-kind', kind.span, {
    message: `There is no block of the kind "${kind.text}".`,
    hint: meant === undefined ? `The blocks are ${allKinds}.` : `There is one with a similar name: ${meant}`,
    fix: meant === undefined ? undefined : replace(kind.span, meant),
  });
}

export function unknownName(
  span: Span,
  details: {
    readonly name: string;
    readonly wanted: string;
    readonly meant: string | undefined;
    readonly available: readonly string[];
  },
): Diagnostic {
  const { name, wanted, meant, available } = details;
  const list = name === 'sweep' ? howToSweep : available.length === 0 ? undefined : `There is ${enumerate(available)}.`;
  return error('unknown-name', span, {
    message: `Nothing is called "${name}", and ${wanted} is needed here.`,
    hint: meant === undefined ? list : `There is one with a similar name: ${meant}`,
    // A name that is none cannot be written here either.
    fix: meant !== undefined && /^[\p{L}_][\p{L}\d_.]*$/u.test(meant) ? replace(span, meant) : undefined,
  });
}

export function unknownParam(
  span: Span,
  name: string,
  meant: string | undefined,
  params: readonly string[],
): Diagnostic {
  const list = params.length === 0 ? 'It has no params.' : `Its params: ${enumerate(params)}.`;
  return error('unknown-param', span, {
    message: `The program has no param "${name}".`,
    hint: meant === undefined ? list : `There is one with a similar name: ${meant}`,
  });
}

export function unknownWord(
  span: Span,
  details: {
    readonly name: string;
    readonly word: string;
    readonly words: readonly string[];
    readonly meant: string | undefined;
    readonly via: Via | undefined;
  },
): Diagnostic {
  const { name, word, words, meant, via } = details;
  return error('unknown-word', span, {
    message: `"${name}" is ${enumerate(words, 'or')}, not "${word}".`,
    related: definedHere(via),
    hint: meant === undefined ? undefined : `Write ${meant}`,
    fix: meant === undefined || via !== undefined ? undefined : replace(span, meant),
  });
}

/** `whole` is what the command line calls it: with the name of the import before it, where it comes from another file. */
export function unsetParam(name: Name, whole: string): Diagnostic {
  return error('unset-param', name.span, {
    message: `The param "${whole}" has no value.`,
    hint: `Set it with -p ${whole}=…, or give it a default: param ${name.text} = …`,
  });
}

export function unsetVariable(span: Span, name: string): Diagnostic {
  return error('unset-variable', span, {
    message: `The environment has no variable "${name}", or it is empty.`,
    hint: `Set it, or give a default: env("${name}", "…")`,
  });
}

/** `given` is where the value stands. */
export function variableKind(
  span: Span,
  details: { readonly name: string; readonly needed: Expression; readonly given: Span },
): Diagnostic {
  const { name, needed, given } = details;
  const wanted = needed.kind === 'word' && /^(?:true|false)$/.test(needed.text) ? 'true or false' : found(needed);
  return error('variable-kind', span, {
    message: `The default of "${name}" is ${wanted}, and "${snippet(given)}" is not of that kind.`,
    related: [{ message: `"${name}" is set here`, span: given }],
  });
}

export function wrongBlockType(
  span: Span,
  details: { readonly name: string; readonly kind: string; readonly other: string; readonly definedAt: Span },
): Diagnostic {
  return error('wrong-kind', span, {
    message:
      `${withArticle(details.kind)} block can only extend another, and "${details.name}" is ${withArticle(details.other)} block.`.replace(
        /^a/,
        'A',
      ),
    related: [{ message: `"${details.name}" is defined here`, span: details.definedAt }],
  });
}

export function wrongKind(
  span: Span,
  details: {
    readonly attribute: string;
    readonly needed: readonly string[];
    readonly name: string;
    readonly kind: string;
    readonly definedAt: Span;
  },
): Diagnostic {
  const { attribute, needed, name, kind, definedAt } = details;
  return error('wrong-kind', span, {
    message: `"${attribute}" needs ${referenceNoun(needed)} here, and "${name}" is ${blockNoun(kind)}.`,
    related: [{ message: `"${name}" is defined here`, span: definedAt }],
  });
}

export function wrongLength(span: Span, name: string, wanted: number, length: number): Diagnostic {
  return error('wrong-length', span, { message: `"${name}" is a list of ${wanted}, and this has ${length}.` });
}

export function wrongUnit(
  span: Span,
  details: {
    readonly name: string;
    readonly value: QuantityExpression;
    readonly takes: string;
    readonly via: Via | undefined;
  },
): Diagnostic {
  const { name, value, takes, via } = details;
  return error('wrong-unit', span, {
    message: `"${snippet(value.span)}" has a unit that "${name}" does not take.`,
    related: definedHere(via),
    hint: takes,
  });
}

export function wrongType(
  span: Span,
  details: {
    readonly name: string;
    readonly type: Type;
    readonly value: Expression;
    readonly hint?: string | undefined;
    readonly fix?: string | undefined;
    readonly via?: Via | undefined;
  },
): Diagnostic {
  const { name, type, value, via } = details;
  const isUntagged = type.kind === 'tagged' && value.kind === 'record';
  const what = isUntagged ? 'has no word in front of the braces' : `is ${found(value)}`;
  return error('wrong-type', span, {
    message: `"${name}" needs ${needs(type)}, and ${via === undefined ? 'this' : `"${via.name}"`} ${what}.`,
    related: definedHere(via),
    hint: details.hint,
    fix: details.fix === undefined || via !== undefined ? undefined : replace(span, details.fix),
  });
}
