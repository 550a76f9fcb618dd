// From the parser's tree to expressions, and to the attributes that records and blocks are made of.
// The tree may have holes: each is complained about here, once, or has been by the parser.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { SourceFile, Span } from '../source.ts';
import type { Attribute, Expression, Name, Operator, TextExpression } from './ast.ts';
import { type CstNode, parseExpression, type Token } from './cst.ts';
import { nameOf, nodes, spanOf, spanOfNode, tokens } from './cst-parts.ts';
import { readDuration, readNumber, readQuantity, readQuoted, readSize } from './literals.ts';
import { misfitDiagnostics } from './misfits.ts';
import { arrangeTokens } from './token-stream.ts';
import { tokenize } from './tokens.ts';

/** More operators in one chain than anyone writes. The checker recurses over them. */
const longestChain = 60;

/** What one walk over a tree has in its hands. */
export interface Building {
  readonly source: SourceFile;
  readonly diagnostics: Diagnostic[];
}

/** An expression on its own: a value given on the command line. */
export function buildExpression(
  source: SourceFile,
  tree: CstNode | undefined,
): { value: Expression | undefined; diagnostics: Diagnostic[] } {
  const building: Building = { source, diagnostics: [] };
  const written = nodes(tree, 'expression')[0];
  return { value: written && expression(building, written), diagnostics: building.diagnostics };
}

export function attributes(building: Building, record: CstNode | undefined): Attribute[] {
  return nodes(record, 'attribute').flatMap((node) => attribute(building, node));
}

function attribute(building: Building, node: CstNode): Attribute[] {
  const { source, diagnostics } = building;
  const token = tokens(node, 'Key')[0] ?? tokens(node, 'Word')[0];
  if (token === undefined) return [];
  const name = keyOf(source, token);
  const equals = tokens(node, 'Equals')[0];
  const written = nodes(node, 'expression')[0];
  if (equals?.image === ':') diagnostics.push(problem.colon(spanOf(source, equals)));
  if (written === undefined) {
    const gap = equals ? spanOf(source, equals) : name.span;
    diagnostics.push(problem.missingValue(name, gap));
    return [{ name, value: { kind: 'broken', span: gap } }];
  }
  const value = expression(building, written);
  if (equals === undefined) diagnostics.push(problem.missingEquals(name, value.span));
  return [{ name, value }];
}

/** Quotes belong to where it stands and not to what it says. */
function keyOf(source: SourceFile, token: Token): Name {
  const { text, span } = nameOf(source, token);
  return { text: /^["']/.test(text) ? text.slice(1, -1) : text, span };
}

export function expression(building: Building, node: CstNode): Expression {
  const operands = nodes(node, 'product').map((product) =>
    chain(
      building,
      product,
      nodes(product, 'signed').map((signed) => signedExpression(building, signed)),
      tokens(product, 'Factor'),
    ),
  );
  return chain(building, node, operands, tokens(node, 'Sign'));
}

/** Rules of one shape: operands, with operators between them, grouped from the left. */
function chain(building: Building, node: CstNode, operands: Expression[], operators: readonly Token[]): Expression {
  const [first, ...rest] = operands;
  const { source, diagnostics } = building;
  if (first === undefined) return { kind: 'broken', span: spanOfNode(source, node) };
  if (rest.length > longestChain) {
    diagnostics.push(problem.tooDeep(spanOf(source, operators[longestChain] as Token)));
    return { kind: 'broken', span: spanOfNode(source, node) };
  }
  return rest.reduce((left, right, index) => binary(left, operators[index]?.image, right), first);
}

function binary(left: Expression, operator: string | undefined, right: Expression): Expression {
  const span = { ...left.span, end: Math.max(left.span.end, right.span.end) };
  // With a hole on either side there is nothing to say about the whole.
  if (operator === undefined || left.kind === 'broken' || right.kind === 'broken') return { kind: 'broken', span };
  return { kind: 'binary', span, operator: operator === '\u2212' ? '-' : (operator as Operator), left, right };
}

function signedExpression(building: Building, node: CstNode): Expression {
  const inner = nodes(node, 'power')[0];
  const of = inner ? powerExpression(building, inner) : broken(building, node);
  return withSigns(building, tokens(node, 'Sign'), of);
}

/** Two minuses cancel; the sign binds less than `**`. */
function withSigns(building: Building, signs: readonly Token[], of: Expression): Expression {
  const first = signs[0];
  if (first === undefined) return of;
  const sign = spanOf(building.source, first);
  const span = { ...sign, end: Math.max(sign.end, of.span.end) };
  const isNegative = signs.filter((sign) => sign.image !== '+').length % 2 === 1;
  return isNegative ? { kind: 'negate', span, of } : of;
}

function powerExpression(building: Building, node: CstNode): Expression {
  const base = nodes(node, 'primary')[0];
  const first = base ? primary(building, base) : broken(building, node);
  const exponents = nodes(node, 'exponent');
  if (exponents.length > longestChain) {
    building.diagnostics.push(problem.tooDeep(spanOf(building.source, tokens(node, 'Power')[longestChain] as Token)));
    return { kind: 'broken', span: first.span };
  }
  const operands = exponents.map((exponent) => {
    const written = nodes(exponent, 'primary')[0];
    const value = written ? primary(building, written) : broken(building, exponent);
    return { signs: tokens(exponent, 'Sign'), value };
  });
  const right = operands.reduceRight<Expression | undefined>((rest, { signs, value }) => {
    return withSigns(building, signs, rest === undefined ? value : binary(value, '**', rest));
  }, undefined);
  return right === undefined ? first : binary(first, '**', right);
}

function primary(building: Building, node: CstNode): Expression {
  const { source } = building;
  const numeral = tokens(node, 'Numeral')[0];
  if (numeral !== undefined) return numeralExpression(building, numeral);
  const text = tokens(node, 'Text')[0];
  if (text !== undefined) return textExpression(building, text);
  const named = nodes(node, 'named')[0];
  if (named !== undefined) return namedExpression(building, named);
  const list = nodes(node, 'list')[0];
  if (list !== undefined) {
    complainOfPicks(building, list, undefined);
    return { kind: 'list', span: spanOfNode(source, list), tag: undefined, items: listItems(building, list) };
  }
  const record = nodes(node, 'record')[0];
  if (record !== undefined) {
    const entries = attributes(building, record);
    return { kind: 'record', span: spanOfNode(source, record), tag: undefined, entries };
  }
  const group = nodes(nodes(node, 'group')[0], 'expression')[0];
  return group ? expression(building, group) : broken(building, node);
}

function numeralExpression({ source, diagnostics }: Building, token: Token): Expression {
  const span = spanOf(source, token);
  switch (token.tokenType.name) {
    case 'SizeNumeral':
      return { kind: 'size', span, ...readSize(token.image) };
    case 'DurationNumeral':
      return { kind: 'duration', span, seconds: readDuration(token.image) };
    case 'QuantityNumeral':
      return { kind: 'quantity', span, ...readQuantity(token.image) };
    case 'NumberNumeral':
      return { kind: 'number', span, value: readNumber(token.image) };
    case 'OddSize':
      diagnostics.push(problem.oddSize(span, token.image));
      return { kind: 'broken', span };
    default:
      diagnostics.push(problem.oddNumber(span, token.image));
      return { kind: 'broken', span };
  }
}

function namedExpression(building: Building, node: CstNode): Expression {
  const { source, diagnostics } = building;
  const word = tokens(node, 'Word')[0];
  const span = spanOfNode(source, node);
  if (word === undefined) return { kind: 'broken', span };
  const tag = nameOf(source, word);
  const record = nodes(node, 'record')[0];
  if (record !== undefined) return { kind: 'record', span, tag, entries: attributes(building, record) };
  const list = nodes(node, 'list')[0];
  const choice = nodes(node, 'choice')[0];
  if (list !== undefined) {
    const items = listItems(building, list);
    const isVariant = items.length === 0 && nodes(list, 'pick').length > 0 && tag.text !== 'sweep';
    if (!isVariant) complainOfPicks(building, list, tag);
    const picks = items.length > 0 ? [] : nodes(list, 'pick').flatMap((pick) => attribute(building, pick));
    // `sweep [gentle = 1e-4]`: understood, in the wrong brackets.
    if (!isVariant && picks.length > 0) return { kind: 'record', span, tag, entries: picks };
    if (choice !== undefined) {
      if (!isVariant && items.length > 0) diagnostics.push(problem.pickWithoutName(spanOfNode(source, list), tag.text));
      return choiceExpression(building, choice, { of: tag, picks, span });
    }
    return isVariant ? { kind: 'variant', span, of: tag, picks } : { kind: 'list', span, tag, items };
  }
  if (choice !== undefined) return choiceExpression(building, choice, { of: tag, picks: [], span });
  const given = nodes(node, 'argumentList')[0];
  if (given !== undefined) return { kind: 'call', span, name: tag, given: listItems(building, given) };
  // A word that is left over from something broken has been complained about by the parser.
  return node.recoveredNode && diagnostics.length > 0
    ? { kind: 'broken', span }
    : { kind: 'word', span, text: tag.text };
}

function choiceExpression(
  building: Building,
  node: CstNode,
  about: { readonly of: Name; readonly picks: readonly Attribute[]; readonly span: Span },
): Expression {
  const numeral = tokens(node, 'Numeral')[0];
  const chosen = tokens(node, 'Word')[0];
  const word = chosen && ({ kind: 'word', span: spanOf(building.source, chosen), text: chosen.image } as const);
  const which = numeral ? numeralExpression(building, numeral) : word;
  const given = nodes(node, 'argumentList')[0];
  return { kind: 'choice', ...about, which, given: given && listItems(building, given) };
}

/** Names in front of values mean one variant of a block, and nothing in any other list. */
function complainOfPicks(building: Building, list: CstNode, tag: Name | undefined): void {
  const key = tokens(nodes(list, 'pick')[0] ?? list, 'Key')[0];
  if (key !== undefined) building.diagnostics.push(problem.keyInList(keyOf(building.source, key), tag));
}

function listItems(building: Building, node: CstNode): Expression[] {
  const items = nodes(node, 'expression').map((item) => expression(building, item));
  const commas = tokens(node, 'Comma');
  items.slice(1).forEach((item, index) => {
    const before = items[index] as Expression;
    const hasComma = commas.some(
      (comma) => comma.startOffset >= before.span.end && comma.startOffset < item.span.start,
    );
    // Next to a hole, a comma may be missing for another reason.
    const hasHole = isBroken(before) || item.kind === 'broken';
    if (!hasComma && !hasHole) building.diagnostics.push(problem.missingComma(before.span));
  });
  return items;
}

/** Also what ends in a text that nothing closes, which would swallow the comma. */
function isBroken(item: Expression): boolean {
  if (item.kind === 'text') return item.parts.some((part) => typeof part !== 'string' && part.kind === 'broken');
  if (item.kind === 'negate') return isBroken(item.of);
  if (item.kind === 'binary') return isBroken(item.right);
  return item.kind === 'broken';
}

export function textExpression(building: Building, token: Token): TextExpression {
  const { source, diagnostics } = building;
  const span = spanOf(source, token);
  switch (token.tokenType.name) {
    case 'QuotedText': {
      const { pieces, diagnostics: found } = readQuoted({ source, start: span.start + 1, end: span.end - 1 });
      diagnostics.push(...found);
      // What it says is anyone's guess then.
      if (found.length > 0) return { kind: 'text', span, parts: [{ kind: 'broken', span }] };
      const parts = pieces.map((piece) => (typeof piece === 'string' ? piece : interpolated(building, piece)));
      return { kind: 'text', span, parts };
    }
    case 'RawText':
      return { kind: 'text', span, parts: [token.image.slice(1, -1)] };
    case 'OpenText':
      diagnostics.push(problem.openText(span, token.image[0] as string));
      return { kind: 'text', span, parts: [{ kind: 'broken', span }] };
    case 'OddQuotedText':
      diagnostics.push(problem.oddQuotes(span, token.image.slice(1, -1)));
      return { kind: 'text', span, parts: [token.image.slice(1, -1)] };
    default: {
      const text = token.image.replace(/"$/, '');
      diagnostics.push(problem.bareText(span, text));
      return { kind: 'text', span, parts: [text] };
    }
  }
}

function interpolated(building: Building, piece: { readonly start: number; readonly end: number }): Expression {
  const { source, diagnostics } = building;
  const span: Span = { source, ...piece };
  const arranged = arrangeTokens(source, tokenize(source.text.slice(piece.start, piece.end), piece.start), true);
  const { tree, misfits } = parseExpression(arranged.tokens);
  const before = diagnostics.length;
  diagnostics.push(...arranged.diagnostics, ...misfitDiagnostics(source, misfits));
  const written = nodes(tree, 'expression')[0];
  if (written === undefined && diagnostics.length === before) diagnostics.push(problem.emptyInterpolation(span));
  return written === undefined ? { kind: 'broken', span } : expression(building, written);
}

const broken = ({ source }: Building, node: CstNode): Expression => ({
  kind: 'broken',
  span: spanOfNode(source, node),
});
