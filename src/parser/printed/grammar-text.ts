// The grammar on paper: EBNF, printed from the parser's own rules and the lexer's own patterns.

import type { GrammarNode } from '../reading/cst.ts';
import type { TokenFact } from '../reading/tokens.ts';

/** The whole of `grammar/lora.ebnf`. */
export function grammarText(rules: readonly GrammarNode[], tokens: readonly TokenFact[]): string {
  const shown = rules.filter((rule) => !isStray(rule));
  const width = Math.max(...shown.map((rule) => rule.name?.length ?? 0));
  const ruleLines = shown.map((rule) => {
    const body = sequence(rule.definition ?? []);
    return `${(rule.name ?? '').padEnd(width)} ::= ${body}`;
  });
  return `${intro}${ruleLines.join('\n')}\n\n${lexicalLines(tokens).join('\n')}\n`;
}

const intro = `/* The grammar of .lora files, printed from the parser (src/parser/reading/cst.ts) and the lexer (src/parser/reading/tokens.ts).
   It is a little wider than the language: the parser also takes common slips (a missing "=", ":" in place of "=", a
   missing comma in a list, a name without quotes) and reports them with a fix. A test keeps this file current:
   UPDATE=1 npx vitest run test/parser/grammar.test.ts */

`;

/** Words have no role of their own; their place gives them one. */
const roles: { readonly [name: string]: string } = {
  BlockWord: 'Word /* before a name and "{", or before a name and "extends" */',
  Key: '(Word | QuotedText | RawText) /* before "=" */',
  Let: '"let"',
  Param: '"param"',
  Import: '"import"',
  Extends: '"extends" /* behind the name of a block */',
};

function sequence(parts: readonly GrammarNode[]): string {
  return parts.map((part) => printed(part)).join(' ');
}

function printed(node: GrammarNode): string {
  const parts = node.definition ?? [];
  switch (node.type) {
    case 'NonTerminal':
      return node.name ?? '';
    case 'Terminal':
      return node.name ?? '';
    case 'Option':
      return `${grouped(parts)}?`;
    case 'Repetition':
      return `${grouped(parts)}*`;
    case 'RepetitionMandatory':
      return `${grouped(parts)}+`;
    case 'Alternation':
      return choice(parts.filter((part) => !part.definition?.some(isStray)));
    case 'Alternative':
      return sequence(parts);
    default:
      throw new Error(`Internal error: the grammar has a ${node.type}`);
  }
}

/** What the parser skips is no part of the language. */
function isStray(node: GrammarNode): boolean {
  return node.name?.startsWith('stray') === true;
}

function choice(parts: readonly GrammarNode[]): string {
  const texts = parts.map((part) => printed(part));
  return texts.length === 1 ? `${texts[0]}` : `(${texts.join(' | ')})`;
}

function grouped(parts: readonly GrammarNode[]): string {
  const text = sequence(parts);
  const isOne = /^\w+$/.test(text) || /^\([^()]*\)$/.test(text);
  return isOne ? text : `(${text})`;
}

function lexicalLines(tokens: readonly TokenFact[]): string[] {
  const width = Math.max(...tokens.map((token) => token.name.length));
  return tokens.flatMap((token) => {
    const members = tokens.filter((other) => other.categories.includes(token.name)).map((other) => other.name);
    const custom =
      token.name === 'BareText' ? '/* behind "=": a path without quotes, such as /a/b, ~/a, ./a or C:\\a */' : '';
    const body =
      members.length > 0 ? members.join(' | ') : (roles[token.name] ?? (token.pattern ? `/${token.pattern}/` : custom));
    return body === '' ? [] : [`${token.name.padEnd(width)} ::= ${body}`];
  });
}
