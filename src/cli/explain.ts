// lorac explain: what a diagnostic means, with an example, what is said about it, and the same example mended.

import { printDiagnostics } from '../parser/diagnostics/print-diagnostic.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import { compileExample } from '../parser/explanations/example.ts';
import {
  type Explanation,
  explainedCodes,
  explanationOf,
  headlineOf,
  inStyle,
  meansOf,
  shortened,
} from '../parser/explanations/explanations.ts';
import { wantsColor } from './color.ts';
import { colored } from './compile-file.ts';
import { UsageError } from './usage-error.ts';

/** Columns of the text. */
const width = 100;

/** Without a code, all of them with a line each. */
export function explain(code: string | undefined): number {
  process.stdout.write(`${(code === undefined ? list() : pageOf(code)).join('\n')}\n`);
  return 0;
}

function list(): string[] {
  const longest = Math.max(...explainedCodes.map((code) => code.length));
  return explainedCodes.map((code) => {
    const explanation = explanationOf(code);
    return `${code.padEnd(longest)}  ${explanation === undefined ? '' : headlineOf(explanation)}`;
  });
}

function pageOf(asked: string): string[] {
  // As it stands behind a message, too.
  const code = asked.replace(/^\[|\]$/g, '').toLowerCase();
  const explanation = explanationOf(code);
  if (explanation === undefined) {
    const meant = nearest(code, explainedCodes);
    throw new UsageError(
      `There is no diagnostic "${asked}".`,
      meant === undefined ? 'lorac explain lists all there are' : `there is one with a similar name: ${meant}`,
    );
  }
  const { wrong, right } = explanation;
  return [
    code,
    '',
    ...wrapped(meansOf(explanation)),
    '',
    'For example:',
    '',
    ...indented(shortened(wrong)),
    ...Object.entries(explanation.files ?? {})
      .slice(0, 3)
      .flatMap(([path, text]) => ['', `with this in ${path}:`, '', ...indented(text)]),
    ...told(explanation),
    '',
    'Right is:',
    '',
    ...indented(inStyle(right)),
  ];
}

/** What is said about an example; nothing where that depends on files. */
function told(explanation: Explanation): string[] {
  const { diagnostics } = compileExample('hero.lora', explanation.wrong, explanation);
  if (diagnostics.length === 0) return [];
  return ['', ...indented(printDiagnostics(diagnostics, wantsColor(process.stdout) ? colored : undefined))];
}

const indented = (text: string): string[] => text.split('\n').map((line) => (line === '' ? '' : `  ${line}`));

function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + 1 + word.length > width) lines.push(word);
    else lines.splice(-1, 1, `${line} ${word}`);
  }
  return lines;
}
