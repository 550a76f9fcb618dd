// An item on one line: what stands between its tokens.

import * as t from '../reading/tokens.ts';
import { endOf, isA } from '../reading/tokens.ts';
import { type Group, isGroup, isOnOneLine, isOperator, type Node } from './tree.ts';

/** `text` is what the nodes were read from: for a part that stays as it is. */
export function flatText(text: string, nodes: readonly Node[]): string {
  let line = '';
  nodes.forEach((node, index) => {
    line += `${blankBefore(nodes, index)}${isGroup(node) ? flatGroup(text, node) : node.image}`;
  });
  return line;
}

function flatGroup(text: string, { kind, entries }: Group): string {
  const items = entries.flatMap((entry) => {
    if (entry.kind === 'comment') return [];
    if (entry.staysAsIs) return text.slice(entry.start, entry.end);
    return kind === 'pick' ? flatPick(text, entry.nodes) : flatText(text, entry.nodes);
  });
  switch (kind) {
    case 'record':
      return items.length === 0 ? '{ }' : `{ ${items.join('  ')} }`;
    case 'round':
      return `(${items.join(', ')})`;
    default:
      return `[${items.join(', ')}]`;
  }
}

/** `thr=-4`, as variants are called everywhere. */
function flatPick(text: string, nodes: readonly Node[]): string {
  const equals = nodes.findIndex((node) => !isGroup(node) && node.image === '=');
  if (equals < 0) return flatText(text, nodes);
  return `${flatText(text, nodes.slice(0, equals))}=${flatText(text, nodes.slice(equals + 1))}`;
}

/** What stands between a node and the one before it. */
export function blankBefore(nodes: readonly Node[], index: number): string {
  const [before, node] = [nodes[index - 1], nodes[index]];
  if (before === undefined || isAt(before) || isAt(node) || isUnary(nodes, index - 1)) return '';
  if (isInWord(nodes, index) || isInWord(nodes, index - 1)) return '';
  // A function and what it is given, a block and its variant.
  if (isGroup(node) && isOnOneLine(node) && isWord(before)) return '';
  return ' ';
}

const isAt = (node: Node | undefined) => node !== undefined && !isGroup(node) && isA(node, t.At);

/** A sign with nothing before it that it could add something to. */
function isUnary(nodes: readonly Node[], index: number): boolean {
  const [before, node] = [nodes[index - 1], nodes[index]];
  if (node === undefined || isGroup(node) || !(isA(node, t.Plus) || isA(node, t.Minus))) return false;
  return before === undefined || isOperator(before);
}

/** The minus of `kohya-diffusers`, which is one word to whoever wrote it. */
function isInWord(nodes: readonly Node[], index: number): boolean {
  const [before, minus, after] = nodes.slice(Math.max(0, index - 1), index + 2);
  if (!isWord(before) || !isWord(after) || minus === undefined || isGroup(minus) || !isA(minus, t.Minus)) return false;
  return endOf(before) === minus.startOffset && endOf(minus) === after.startOffset;
}

const isWord = (node: Node | undefined): node is t.Token => node !== undefined && !isGroup(node) && isA(node, t.Word);
