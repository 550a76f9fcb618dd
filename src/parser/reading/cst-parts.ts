// What stands under a node of the parser's tree, and where in the text it stands.

import type { SourceFile, Span } from '../source.ts';
import type { Name } from './ast.ts';
import type { CstNode, Token } from './cst.ts';
import { endOf } from './tokens.ts';

const none: readonly never[] = [];

/** Rules and tokens never share a name, so what stands under the one of a rule is nodes. */
export function nodes(node: CstNode | undefined, rule: string): readonly CstNode[] {
  return (node?.children[rule] as readonly CstNode[] | undefined) ?? none;
}

export function tokens(node: CstNode, name: string): readonly Token[] {
  return (node.children[name] as readonly Token[] | undefined) ?? none;
}

export const nameOf = (source: SourceFile, token: Token): Name => ({ text: token.image, span: spanOf(source, token) });

export const spanOf = (source: SourceFile, token: Token): Span => ({
  source,
  start: token.startOffset,
  end: endOf(token),
});

/** From the first token of a node to its last. Called for every value of a file, so it makes no lists on its way. */
export function spanOfNode(source: SourceFile, node: CstNode): Span {
  const { start, end } = reachOf(node);
  return start > end ? { source, start: end, end } : { source, start, end };
}

function reachOf(node: CstNode): { readonly start: number; readonly end: number } {
  const { OpenBrace, CloseBrace, OpenBracket, CloseBracket } = node.children;
  const [opener, closer] = [(OpenBrace ?? OpenBracket)?.[0], (CloseBrace ?? CloseBracket)?.[0]];
  // A bracket reaches to its partner, whatever is in between: that need not be walked once more at every level.
  if (opener && closer && 'image' in opener && 'image' in closer) {
    return { start: opener.startOffset, end: endOf(closer) };
  }
  let [start, end] = [Number.POSITIVE_INFINITY, 0];
  for (const name in node.children) {
    for (const child of node.children[name] as (CstNode | Token)[]) {
      const reach = 'image' in child ? { start: child.startOffset, end: endOf(child) } : reachOf(child);
      // A hole lies nowhere.
      if (reach.end === 0) continue;
      start = Math.min(start, reach.start);
      end = Math.max(end, reach.end);
    }
  }
  return { start, end };
}
