// Settings that are right one by one may not go together, and only the checker knows: a warm-up longer than the training,
// an offset that is changed and not there. What it refuses becomes a comment with its words, until the program checks.

import { compile } from '../parser/check.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { format } from '../parser/format/format.ts';
import type { Draft, DraftBlock } from './draft.ts';
import { printDraft } from './print-draft.ts';

export interface Settled {
  readonly program: string;
  readonly draft: Draft;
}

export function settle(draft: Draft): Settled {
  const program = printDraft(draft);
  const { diagnostics } = compile({ path: 'imported.lora', text: program }, { params: new Map() });
  const errors = diagnostics.filter(({ severity }) => severity === 'error');
  for (const error of errors) {
    const refused = attributeAt(draft, program, error);
    // Each round leaves one attribute out, so there is an end.
    if (refused !== undefined) return settle(without(draft, refused, error.message));
  }
  return { program: format(program).text, draft };
}

interface Refused {
  readonly block: DraftBlock;
  readonly field: string;
  readonly written: string;
}

/** The attribute on the line that a diagnostic points at. What a block has to have stays. */
function attributeAt(draft: Draft, program: string, { span }: Diagnostic): Refused | undefined {
  const start = program.lastIndexOf('\n', span.start - 1) + 1;
  const line = program.slice(start).split('\n', 1)[0] as string;
  const [, field, written] = /(?:^ {2}|\{ )(\w+) += (.*?)(?: {2}#.*| \})?$/.exec(line) ?? [];
  const heading = program
    .slice(0, start + line.length)
    .match(/^\w+ \S.*\{.*$/gm)
    ?.at(-1);
  const block = draft.blocks.find(({ kind, name }) => heading?.startsWith(`${kind} ${name} {`));
  if (block === undefined || field === undefined || written === undefined) return undefined;
  return block.values.has(field) && !/^(path|images|base|data|from)$/.test(field)
    ? { block, field, written }
    : undefined;
}

function without(draft: Draft, { block, field, written }: Refused, reason: string): Draft {
  const values = new Map([...block.values].filter(([name]) => name !== field));
  const blocks = draft.blocks.map((one) => (one === block ? { ...block, values } : one));
  return { ...draft, blocks, lost: [...draft.lost, { name: field, value: written, reason }] };
}
