// From the parser's tree to the AST. The tree may have holes wherever something was wrong;
// each hole is complained about here, once, or has been by the parser.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { type SourceFile, type Span, sourceText } from '../source.ts';
import type { BlockStatement, ImportStatement, Name, Program, Statement } from './ast.ts';
import { attributes, type Building, expression, textExpression } from './build-expression.ts';
import type { CstNode } from './cst.ts';
import { nameOf, nodes, spanOf, spanOfNode, tokens } from './cst-parts.ts';
import { isOddPath } from './literals.ts';

export function buildAst(
  source: SourceFile,
  tree: CstNode | undefined,
): { program: Program; diagnostics: Diagnostic[] } {
  const building: Building = { source, diagnostics: [] };
  const statements = nodes(tree, 'statement').flatMap((node) => statement(building, node));
  return { program: { source, statements }, diagnostics: building.diagnostics };
}

function statement(building: Building, node: CstNode): Statement[] {
  const block = nodes(node, 'block')[0];
  if (block !== undefined) return blockStatement(building, block);
  const definition = nodes(node, 'letStatement')[0] ?? nodes(node, 'paramStatement')[0];
  if (definition !== undefined) return definitionStatement(building, definition);
  const importing = nodes(node, 'importStatement')[0];
  if (importing !== undefined) return [importStatement(building, importing)];
  const stray = nodes(node, 'attribute')[0];
  if (stray !== undefined) {
    const before = building.diagnostics.length;
    const [value] = nodes(stray, 'expression');
    if (value !== undefined) expression(building, value);
    // What is wrong inside it is the better explanation.
    if (building.diagnostics.length === before) {
      building.diagnostics.push(problem.outsideBlock(spanOfNode(building.source, stray)));
    }
  }
  return [];
}

function importStatement(building: Building, node: CstNode): ImportStatement {
  const { source, diagnostics } = building;
  const span = spanOfNode(source, node);
  const as = tokens(node, 'As')[0];
  const word = tokens(node, 'Word')[0];
  if (as !== undefined && as.image !== 'as') diagnostics.push(problem.importAs(spanOf(source, as)));
  const alias = word && nameOf(source, word);
  if (alias?.text.includes('.')) diagnostics.push(problem.badName(alias.span));
  return { kind: 'import', span, path: importedPath(building, node), alias };
}

function importedPath(building: Building, node: CstNode): Name | undefined {
  const { diagnostics } = building;
  const token = tokens(node, 'Text')[0];
  if (token === undefined) return undefined;
  const { span, parts } = textExpression(building, token);
  const values = parts.filter((part) => typeof part !== 'string');
  const text = parts.join('');
  if (values.some(({ kind }) => kind === 'broken')) return undefined;
  if (values.length > 0) diagnostics.push(problem.importedExpression(span));
  else if (text.trim() === '') diagnostics.push(problem.emptyText(span, 'import'));
  else if (isOddPath(text)) diagnostics.push(problem.oddPath(span, sourceText(span)));
  else return { text, span };
  return undefined;
}

function blockStatement(building: Building, node: CstNode): BlockStatement[] {
  const { source, diagnostics } = building;
  const kindToken = tokens(node, 'BlockWord')[0];
  if (kindToken === undefined) return [];
  const blockKind = nameOf(source, kindToken);
  const word = tokens(node, 'Word')[0];
  const text = tokens(node, 'Text')[0];
  const name = word ? nameOf(source, word) : text && textExpression(building, text);
  if (name === undefined) diagnostics.push(problem.missingName(blockKind));
  const other = tokens(node, 'Other')[0];
  const record = nodes(node, 'record')[0];
  const header: Span = { source, start: blockKind.span.start, end: (name ?? blockKind).span.end };
  return [
    {
      kind: 'block',
      blockKind,
      name,
      extending: other && nameOf(source, other),
      attributes: attributes(building, record),
      header,
      body: record ? spanOfNode(source, record) : { ...header, start: header.end },
    },
  ];
}

function definitionStatement(building: Building, node: CstNode): Statement[] {
  const { source, diagnostics } = building;
  const kind = node.name === 'letStatement' ? 'let' : 'param';
  const word = tokens(node, 'Word')[0];
  if (word === undefined) return [];
  const name = nameOf(source, word);
  const equals = tokens(node, 'Equals')[0];
  const written = nodes(node, 'expression')[0];
  if (equals === undefined && written === undefined && kind === 'param') return [{ kind, name, value: undefined }];
  if (written !== undefined) {
    const value = expression(building, written);
    if (equals === undefined) diagnostics.push(problem.missingEquals(name, value.span));
    return [{ kind, name, value }];
  }
  const gap = equals ? spanOf(source, equals) : name.span;
  diagnostics.push(problem.missingValue(name, gap));
  return [{ kind, name, value: { kind: 'broken', span: gap } }];
}
