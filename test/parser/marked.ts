// Programs in tests, with «…» around each place that a diagnostic points at.

import { posix } from 'node:path';
import { expect } from 'vitest';
import { type Compiled, compile, type ImportedFiles } from '../../src/parser/check.ts';
import type { Diagnostic } from '../../src/parser/diagnostics/diagnostics.ts';
import type { BlockKind, BlockOf } from '../../src/parser/model.ts';

export function compileText(text: string, params: { readonly [name: string]: string } = {}): Compiled {
  return compile({ path: 'test.lora', text }, { params: new Map(Object.entries(params)) });
}

/** Files by path, of which `main.lora` is the program. */
export interface Files {
  readonly 'main.lora': string;
  readonly [path: string]: string;
}

export function compileFiles(texts: Files, params: { readonly [name: string]: string } = {}): Compiled {
  const source = { path: 'main.lora', text: texts['main.lora'] };
  return compile(source, { params: new Map(Object.entries(params)), files: filesFrom((path) => texts[path]) });
}

/** Imports without a disk: paths are joined as they are on one. */
export function filesFrom(textOf: (path: string) => string | undefined): ImportedFiles {
  return {
    load(written, from) {
      const id = posix.join(posix.dirname(from.path), written);
      const text = textOf(id);
      return text === undefined
        ? { status: 'problem', message: `There is no file ${id}.` }
        : { status: 'found', id, source: { path: id, text } };
    },
    identify: ({ path }) => path,
  };
}

/** The program has exactly these problems, in the order of the text, each at its mark. */
export function expectProblems(codes: readonly string[], marked: string): readonly Diagnostic[] {
  const { text, marks } = readMarks(marked);
  const { diagnostics } = compileText(text);
  expect(diagnostics.map(({ code }) => code)).toEqual(codes);
  const places = diagnostics.map(({ span }) => text.slice(span.start, span.end));
  expect(places).toEqual(marks.map(({ start, end }) => text.slice(start, end)));
  expect(diagnostics.map(({ span }) => ({ start: span.start, end: span.end }))).toEqual(marks);
  return diagnostics;
}

function readMarks(marked: string): { text: string; marks: { start: number; end: number }[] } {
  const marks: { start: number; end: number }[] = [];
  let text = '';
  for (const piece of marked.split(/(?=[«»])/)) {
    const letter = piece[0];
    const last = marks.findLast((mark) => mark.end < 0);
    if (letter === '«') marks.push({ start: text.length, end: -1 });
    else if (letter === '»' && last !== undefined) last.end = text.length;
    text += letter === '«' || letter === '»' ? piece.slice(1) : piece;
  }
  return { text, marks };
}

/** The one block of a kind in a program without problems. */
export function blockOf<K extends BlockKind>(
  text: string,
  kind: K,
  params: { readonly [name: string]: string } = {},
): BlockOf<K> {
  const { program, diagnostics } = compileText(text, params);
  expect(diagnostics).toEqual([]);
  const found = program?.blocks.filter((block) => block.kind === kind) ?? [];
  expect(found).toHaveLength(1);
  return found[0] as BlockOf<K>;
}

/** What other blocks need around them, so that a test can be about one. */
export const around = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
`;

export function trainWith(attributes: string, more = ''): string {
  return `${around}${more}\ntrain raw { base = pony  data = hero\n${attributes}\n}`;
}

/** The hint of each problem. */
export function hintsOf(text: string): (string | undefined)[] {
  return compileText(text).diagnostics.map(({ hint }) => hint);
}

/** The text with every known fix made, from the end to the beginning. */
export function fixAll(text: string): string {
  const fixes = compileText(text).diagnostics.flatMap(({ fix }) => fix ?? []);
  const inOrder = fixes.toSorted((a, b) => b.span.start - a.span.start);
  return inOrder.reduce((fixed, { span, text: by }) => fixed.slice(0, span.start) + by + fixed.slice(span.end), text);
}
