// Problems with sweeps, and with the variants that they make, sorted by code.

import type { Expression, Name } from '../reading/ast.ts';
import { snippet } from '../reading/literals.ts';
import type { Span } from '../source.ts';
import { enumerate } from './describe.ts';
import { type Diagnostic, error, type Fix, replace, warning } from './diagnostic.ts';

export const howToSweep = 'The values of a sweep stand in brackets: sweep [-3, -3.5, -4]';

export function emptySweep(span: Span, name: string): Diagnostic {
  return error('empty-sweep', span, {
    message: `"${name}" has a sweep without values, so there is nothing to make.`,
    hint: howToSweep,
  });
}

export function excludedVariant(span: Span, variant: string): Diagnostic {
  return error('excluded-variant', span, {
    message: `There is no "${variant}": an "exclude" leaves it out.`,
    hint: 'Name another variant, or take this one out of the exclude.',
  });
}

/** Names in front of the values of a list. */
export function keyInList(key: Name, tag: Name | undefined): Diagnostic {
  return error('key-in-list', key.span, {
    message: `A list has values, and "${key.text} =" gives one a name.`,
    hint:
      tag === undefined
        ? 'Names stand in braces: { name = value }'
        : tag.text === 'sweep'
          ? 'Values with names stand in braces: sweep { gentle = 1e-4  strong = 3e-4 }'
          : `Write nothing but names and values, to mean one variant of "${tag.text}": ${tag.text}[${key.text}=…]`,
  });
}

export function misplacedSweep(span: Span): Diagnostic {
  return error('misplaced-sweep', span, {
    message: 'A sweep is a value as a whole, and this one is a part of something.',
    hint: `Give it a name, and write that here: let value = ${snippet(span)}`,
  });
}

/** `sweep [-3 -4]` is one number. */
export function missingSweepComma(span: Span, text: string): Diagnostic {
  return error('missing-sweep-comma', span, {
    message: 'This is a subtraction, and so one value.',
    hint: `Between values stands a comma: ${text}`,
    fix: replace(span, text),
  });
}

/** `items` are all the values of the sweep. */
export function namelessValue(span: Span, sweep: Span, items: readonly Expression[]): Diagnostic {
  const names = ['first', 'second', 'third', 'fourth', 'fifth'];
  const shown = items.slice(0, 3).map((item, index) => `${names[index]} = ${snippet(item.span)}`);
  const rest = items.length > 3 ? '  …' : '';
  const all = items.map((item, index) => {
    const { source, start, end } = item.span;
    return `${names[index] ?? `value_${index + 1}`} = ${source.text.slice(start, end)}`;
  });
  return error('nameless-value', span, {
    message:
      'A variant is called by its value, and this one is too long for that, or has characters that no name can have.',
    hint: `Give the values names: sweep { ${shown.join('  ')}${rest} }`,
    fix: replace(sweep, `sweep { ${all.join('  ')} }`),
  });
}

export function nothingLeft(span: Span, name: string): Diagnostic {
  return error('nothing-left', span, {
    message: `No variant of ${name} is left.`,
    hint: 'Take something out of "exclude": it leaves out every combination that there is.',
  });
}

/** `exclude = [IN]` in a chop, or any other value. */
export function oddExclude(span: Span, kind: string): Diagnostic {
  return error('odd-exclude', span, {
    message: '"exclude" says which combinations of swept values are not made: a list of them, each in braces.',
    hint:
      kind === 'chop'
        ? 'Blocks of the network that go are written drop = […]'
        : 'Write it like this: exclude = [{ thr = -3  dim = 8 }]',
  });
}

export function oddVariantName(span: Span, name: string): Diagnostic {
  const better = name.trim().replaceAll(/[^\p{L}\p{N}_.+-]+/gu, '_');
  const isBetter = /^[\p{L}\p{N}_]/u.test(better);
  return error('odd-variant-name', span, {
    message: `"${name}" cannot name a variant: that takes letters, digits, and _ . + - between them.`,
    hint: isBetter ? `Write "${better}"` : undefined,
    fix: isBetter ? replace(span, `"${better}"`) : undefined,
  });
}

/** `small[-3]`: a value without its sweep. */
export function pickWithoutName(span: Span, block: string): Diagnostic {
  return error('pick-without-name', span, {
    message: `This does not say which variant of "${block}" is meant.`,
    hint: `Write the sweep and its value, such as ${block}[thr=-3.5]`,
  });
}

/** The variants of one block of the program that would save to one place. */
export function samePathVariants(
  span: Span,
  details: {
    readonly path: string;
    readonly variants: readonly string[];
    /** The path with the values in it, where these can be named. */
    readonly better: Fix | undefined;
    /** A sweep of the block that saves. */
    readonly own: string | undefined;
  },
): Diagnostic {
  const { path, variants, better, own = 'value' } = details;
  const shown = variants.length > 4 ? [...variants.slice(0, 3), `${variants.length - 3} more`] : variants;
  return error('same-path', span, {
    message: `${enumerate(shown)} would all be saved to "${path}".`,
    hint:
      better === undefined
        ? `Give the sweep a name, and write that into the path: let ${own} = sweep […]  save "${path.replace(/(?=\.\w+$)/, `-\${${own}}`)}" { … }`
        : `Write the value into the path: save ${better.text}`,
    fix: better,
  });
}

/** Several thresholds as `lorac resize` takes them. */
export function quotientForSweep(
  span: Span,
  { numbers, thr }: { readonly numbers: readonly string[]; readonly thr: number },
): Diagnostic {
  const sweep = `sweep [${numbers.join(', ')}]`;
  return warning('quotient-for-sweep', span, {
    message: `${numbers.join('/')} is several thresholds for "lorac resize", and here a division: ${Number(thr.toPrecision(4))}.`,
    hint: `Write ${sweep} to make one LoRA for each.`,
    fix: replace(span, sweep),
  });
}

/** The variants of a block that saves one thing several times. */
export function savedAgain(
  span: Span,
  details: { readonly what: string; readonly paths: readonly string[] },
): Diagnostic {
  const { what, paths } = details;
  const shown = paths.length > 4 ? [...paths.slice(0, 3), `${paths.length - 3} more`] : paths;
  return warning('saved-again', span, {
    message: `"${what}" is saved ${paths.length} times, and is the same each time: ${enumerate(shown)}.`,
    hint: 'Save what varies, or leave the value out of the path.',
  });
}

export function slashInPath(span: Span, label: string): Diagnostic {
  return error('slash-in-path', span, {
    message: `The value "${label}" has a slash in it, which would make folders of this path.`,
    hint: 'Give the values names, and the path has these: sweep { one = "…"  other = "…" }',
  });
}

export function sweepOfOne(span: Span, name: string): Diagnostic {
  return warning('sweep-of-one', span, {
    message: `The sweep of "${name}" has one value, so it changes nothing but names.`,
    hint: 'Add values, or write the value alone.',
  });
}

export function sweptTwice(span: Span, label: string, first: Span): Diagnostic {
  return error('swept-twice', span, {
    message: `"${label}" is twice in this sweep, and would be made twice.`,
    related: [{ message: 'First written here', span: first }],
    hint: 'Leave one of them out.',
  });
}

export function tooManyVariants(
  span: Span,
  details: { readonly name: string; readonly most: number; readonly sweeps: readonly string[] },
): Diagnostic {
  const { name, most, sweeps } = details;
  return error('too-many-variants', span, {
    message: `There would be more than ${most} variants of ${name}: ${sweeps.join(' × ')}.`,
    hint: 'Each sweep multiplies the others. Sweep one thing after the other, or fewer values.',
  });
}

/** `sweeps`: what the variants of the block are told apart by, as it can be written. */
export function unknownSweep(
  name: Name,
  details: {
    readonly block: string;
    readonly sweeps: readonly string[];
    readonly meant: string | undefined;
    /** False where several have that name. */
    readonly isOne: boolean;
  },
): Diagnostic {
  const { block, sweeps, meant, isOne } = details;
  return error('unknown-sweep', name.span, {
    message:
      sweeps.length === 0
        ? `${block} has no variants: no sweep is in it, nor in what it is made from.`
        : isOne
          ? `The variants of ${block} do not differ by "${name.text}".`
          : `Two sweeps that ${block} depends on are called "${name.text}".`,
    hint:
      meant !== undefined
        ? `There is one with a similar name: ${meant}`
        : sweeps.length === 0
          ? undefined
          : `They differ by ${enumerate(sweeps)}.`,
    fix: meant === undefined ? undefined : replace(name.span, meant),
  });
}

export function unknownSweptValue(
  span: Span,
  details: {
    readonly sweep: string;
    readonly written: string;
    readonly labels: readonly string[];
    readonly meant: string | undefined;
  },
): Diagnostic {
  const { sweep, written, labels, meant } = details;
  const shown = labels.length > 12 ? [...labels.slice(0, 12), '…'] : labels;
  return error('unknown-swept-value', span, {
    message: `The sweep of "${sweep}" has no value ${written}.`,
    hint: meant === undefined ? `Its values are ${shown.join(', ')}.` : `There is one that is similar: ${meant}`,
    fix: meant === undefined ? undefined : replace(span, meant),
  });
}
