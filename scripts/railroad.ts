// The grammar as railroad diagrams: one page that needs nothing but itself, drawn from the parser's own rules.

import { createRequire } from 'node:module';
import type { GrammarNode } from '../src/parser/reading/cst.ts';
import type { TokenFact } from '../src/parser/reading/tokens.ts';

/** What `railroad-diagrams` draws; it comes without types. */
interface Drawing {
  toString(): string;
}
type Part = Drawing | string;
interface Railroad {
  Diagram(...parts: Part[]): Drawing;
  Sequence(...parts: Part[]): Drawing;
  Choice(normal: number, ...parts: Part[]): Drawing;
  Optional(part: Part): Drawing;
  OneOrMore(part: Part): Drawing;
  ZeroOrMore(part: Part): Drawing;
  Terminal(text: string, href?: string): Drawing;
  NonTerminal(text: string, href?: string): Drawing;
}

const draw = createRequire(import.meta.url)('railroad-diagrams') as Railroad;

/** The whole of `grammar/lora.html`. */
export function railroadPage(rules: readonly GrammarNode[], tokens: readonly TokenFact[]): string {
  const shown = rules.filter((rule) => !isStray(rule));
  const labels = new Map(tokens.map(({ name, label }) => [name, label]));
  const diagrams = shown.map(({ name = '', definition = [] }) => {
    const svg = draw.Diagram(...definition.map((part) => drawn(part, labels))).toString();
    return `<h2 id="${name}">${name}</h2>\n${svg.trim()}\n`;
  });
  const links = shown.map(({ name }) => `<a href="#${name}">${name}</a>`);
  return `${head}<p>${links.join(' · ')}</p>\n${diagrams.join('')}</body>\n</html>\n`;
}

const head = `<!doctype html>
<!-- Printed from src/parser/reading/cst.ts: UPDATE=1 npx vitest run test/parser/grammar.test.ts -->
<html lang="en">
<head>
<meta charset="utf-8">
<title>The grammar of .lora files</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h2 { font: bold 1rem monospace; margin: 2rem 0 0.25rem; }
svg.railroad-diagram { max-width: 100%; height: auto; }
svg.railroad-diagram path { stroke-width: 2; stroke: #444; fill: none; }
svg.railroad-diagram text { font: 14px monospace; text-anchor: middle; }
svg.railroad-diagram rect { stroke-width: 2; stroke: #444; fill: #e8f3e8; }
svg.railroad-diagram a rect { fill: #eef2fb; }
</style>
</head>
<body>
<h1>The grammar of .lora files</h1>
<p>Line breaks and blanks mean nothing between words. <code>lora.ebnf</code>, beside this page, also says what words,
numbers and texts are made of. The parser takes a little more than this, in order to say what is wrong with it.</p>
`;

function drawn(node: GrammarNode, labels: ReadonlyMap<string, string>): Part {
  const { type, name = '' } = node;
  const parts = (node.definition ?? []).filter((part) => !isStray(part) && !part.definition?.some(isStray));
  const inner = () => inOne(parts.map((part) => drawn(part, labels)));
  switch (type) {
    case 'NonTerminal':
      return draw.NonTerminal(name, `#${name}`);
    case 'Terminal':
      return draw.Terminal(labels.get(name) ?? name);
    case 'Option':
      return draw.Optional(inner());
    case 'Repetition':
      return draw.ZeroOrMore(inner());
    case 'RepetitionMandatory':
      return draw.OneOrMore(inner());
    case 'Alternation':
      return parts.length === 1 ? inner() : draw.Choice(0, ...parts.map((part) => drawn(part, labels)));
    case 'Alternative':
      return inner();
    default:
      throw new Error(`The grammar has a ${type}.`);
  }
}

function inOne(parts: readonly Part[]): Part {
  const [first, ...others] = parts;
  return first !== undefined && others.length === 0 ? first : draw.Sequence(...parts);
}

/** What the parser skips is no part of the language. */
function isStray(node: GrammarNode): boolean {
  return node.name?.startsWith('stray') === true;
}
