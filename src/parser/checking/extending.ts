// `train b extends a { … }`: the attributes of `a`, with those of `b` over them.
// Records are merged key by key; everything else, lists included, is replaced.

import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Attribute, BlockStatement, Expression, Name } from '../reading/ast.ts';
import type { Span } from '../source.ts';
import { isSweep } from '../sweeps/sweeps.ts';
import type { NamedBlock, Scope } from './scope.ts';

/** Longer lines of blocks than anyone writes. */
const longestLine = 50;

export function attributesOf(scope: Scope, block: BlockStatement): readonly Attribute[] {
  const line: BlockStatement[] = [block];
  const steps: { from: string; to: string; span: Span }[] = [];
  for (let current = block; current.extending !== undefined; ) {
    const { text, span } = current.extending;
    const named = scope.blockNamed(current.extending);
    const other = named?.statement;
    if (other === undefined || other.blockKind.text !== block.blockKind.text) {
      // A block further up complains for itself.
      if (current === block) complain(scope, block, named, current.extending);
      break;
    }
    steps.push({ from: nameOf(current), to: text, span });
    if (line.includes(other)) {
      const start = line.indexOf(other);
      if (start === 0) scope.report(problem.cycle(steps.slice(start)));
      break;
    }
    if (line.length >= longestLine) {
      scope.report(problem.tooComplex(span));
      break;
    }
    line.push(other);
    current = other;
  }
  return line.reduceRight<readonly Attribute[]>((below, { attributes }) => mergeAttributes(below, attributes), []);
}

function nameOf({ name, blockKind }: BlockStatement): string {
  return name !== undefined && 'text' in name ? name.text : blockKind.text;
}

function complain(scope: Scope, block: BlockStatement, other: NamedBlock | undefined, { text, span }: Name): void {
  const kind = block.blockKind.text;
  if (other !== undefined) {
    // A block of an unknown kind has been complained about.
    if (other.kind === 'unknown') return;
    scope.report(problem.wrongBlockType(span, { name: text, kind, other: other.kind, definedAt: other.span }));
    return;
  }
  const available = scope
    .blocksSeenBy(span.source)
    .filter(([, one]) => one.kind === kind)
    .map(([word]) => word);
  const wanted = `another ${kind} block`;
  scope.report(problem.unknownName(span, { name: text, wanted, meant: nearest(text, available), available: [] }));
}

function mergeAttributes(below: readonly Attribute[], above: readonly Attribute[]): readonly Attribute[] {
  const covered = new Map(above.map((attribute) => [attribute.name.text, attribute]));
  const kept = below.filter((attribute) => !covered.has(attribute.name.text));
  const merged = above.map((attribute) => {
    const under = below.find((other) => other.name.text === attribute.name.text);
    return under === undefined ? attribute : { ...attribute, value: mergeValues(under.value, attribute.value) };
  });
  return [...kept, ...merged];
}

/** Records of the same tag, or where the upper one has a tag and the lower one has the same or is the bare word. */
function mergeValues(below: Expression, above: Expression): Expression {
  if (below.kind !== 'record' || above.kind !== 'record' || below.tag?.text !== above.tag?.text || isSweep(above))
    return above;
  return { ...above, entries: mergeAttributes(below.entries, above.entries) };
}
