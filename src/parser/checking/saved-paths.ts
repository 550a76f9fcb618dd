// No two blocks save to one place, nor two variants of one block; and no variants of a block save the same.

import type { Fix } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf, CheckedBlock } from '../model.ts';
import type { Span } from '../source.ts';
import { nameOfReference } from '../values.ts';
import type { Scope } from './scope.ts';

type Save = BlockOf<'save'>;

export function reportSamePaths(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const places = new Map<string, Save[]>();
  for (const block of blocks) {
    if (block.kind !== 'save') continue;
    const path = plainPath(block.name);
    places.set(path, [...(places.get(path) ?? []), block]);
  }
  const firsts: Save[] = [];
  for (const [first, ...others] of places.values()) {
    if (first === undefined) continue;
    const variants = [first, ...others.filter((other) => isSamePlace(other.span, first.span))];
    if (variants.length > 1) scope.report(samePathVariants(variants));
    if (variants.length === 1) firsts.push(first);
    const [another] = others.filter((other) => !isSamePlace(other.span, first.span));
    if (another !== undefined) scope.report(problem.samePath(another.span, another.name, first.span));
  }
  reportSameContent(scope, firsts);
}

/** One LoRA under several paths, each of which promises another. */
function reportSameContent(scope: Scope, saves: readonly Save[]): void {
  const contents = new Map<string, Save[]>();
  for (const save of saves) {
    const { from, format } = save.attributes;
    const key = `${save.span.source.path} ${save.span.start} ${format} ${nameOfReference(from)}`;
    contents.set(key, [...(contents.get(key) ?? []), save]);
  }
  for (const [first, ...others] of contents.values()) {
    if (first === undefined || others.length === 0) continue;
    const paths = [first, ...others].map(({ name }) => `"${name}"`);
    scope.report(problem.savedAgain(first.span, { what: nameOfReference(first.attributes.from), paths }));
  }
}

const isSamePlace = (one: Span, other: Span) => one.source === other.source && one.start === other.start;

/** Variants of one block of the program. */
function samePathVariants(variants: readonly Save[]) {
  const [first] = variants as readonly [Save];
  const made = variants.map(({ attributes }) => `"${nameOfReference(attributes.from)}"`);
  const isTold = new Set(made).size === made.length;
  const values = variants.map(({ variant }) =>
    variant?.values.map(({ sweep, label }) => `${sweep} = ${label}`).join(', '),
  );
  return problem.samePathVariants(first.span, {
    path: first.name,
    variants: isTold ? made : values.filter((value) => value !== undefined),
    better: betterPath(variants),
    own: ownSweep(variants),
  });
}

/** A sweep in the block itself, which nothing can name. */
function ownSweep([first]: readonly Save[]): string | undefined {
  return first?.variant?.values.find(({ inText }) => inText === undefined)?.sweep;
}

/** The path as it is written, with the values in it that tell the variants apart, where these can be named. */
function betterPath(variants: readonly Save[]): Fix | undefined {
  const [first] = variants as readonly [Save];
  const differing = (first.variant?.values ?? []).filter(({ sweep, label }) =>
    variants.some(({ variant }) => variant?.values.find((one) => one.sweep === sweep)?.label !== label),
  );
  const names = differing.map(({ inText }) => inText);
  const { source, start, end } = first.span;
  const [, quoted] = /^save\s*(".*")$/.exec(source.text.slice(start, end)) ?? [];
  if (quoted === undefined || names.includes(undefined)) return undefined;
  // What is in the path already, and tells nothing apart, would not the second time.
  if (names.every((name) => name !== undefined && quoted.includes(name))) return undefined;
  const text = quoted.replace(/(?=\.\w+"$)/, names.map((name) => `-${name}`).join(''));
  return { text, span: { source, start: end - quoted.length, end } };
}

/** `./out//a.safetensors` and `x/../out/a.safetensors` are `out/a.safetensors`. */
function plainPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split(/[\\/]+/)) {
    if (part === '.') continue;
    if (part === '..' && parts.length > 0 && parts.at(-1) !== '..' && parts.at(-1) !== '') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
}
