// From what was written to what it means: names resolved, kinds checked, defaults filled in.
// A mistake in one place never stops the rest from being checked.

import { checkAcross } from './across-blocks.ts';
import type { Attribute, BlockStatement, Definition, Expression, Program, TextExpression } from './ast.ts';
import { checkFields } from './check-fields.ts';
import { joinText, sweptLabel } from './check-text.ts';
import type { Diagnostic } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import { splitExclude } from './exclude.ts';
import { attributesOf } from './extending.ts';
import { joinVariants, type VariedBlock } from './join-variants.ts';
import type { CheckedBlock, CheckedProgram } from './model.ts';
import { setParams } from './params.ts';
import { applyRules } from './rules.ts';
import { type BlockKind, blockKinds, fieldsOf, isBlockKind } from './schema.ts';
import { createScope, type NamedBlock, type Scope } from './scope.ts';
import { nearest } from './suggest.ts';
import { collectSweeps, type Sweeps } from './sweeps.ts';
import { inEveryVariant, mostVariants } from './variants.ts';
import { sourceText } from './written.ts';

export interface Checking {
  readonly program: CheckedProgram;
  readonly diagnostics: readonly Diagnostic[];
}

export function checkProgram(written: Program, params: ReadonlyMap<string, string>): Checking {
  const diagnostics: Diagnostic[] = [];
  const blocks = written.statements.filter((statement) => statement.kind === 'block');
  const defined = collectDefinitions(written, diagnostics);
  const definitions = setParams(defined, params, diagnostics);
  const { named, statements } = collectBlocks(blocks, diagnostics);
  const scope = createScope({ blocks: named, definitions, statements }, diagnostics);
  for (const statement of written.statements) {
    if (statement.kind === 'import') scope.report(problem.noImport(statement.span));
  }
  const sweeps = collectSweeps(definitions, blocks, scope.report);
  const checked = joinVariants(
    scope,
    blocks.flatMap((block) => checkBlock(scope, block, sweeps) ?? []),
  );
  checkAcross(scope, checked);
  return { program: { source: written.source, blocks: checked }, diagnostics };
}

function collectDefinitions(written: Program, diagnostics: Diagnostic[]): ReadonlyMap<string, Definition> {
  const definitions = new Map<string, Definition>();
  for (const statement of written.statements) {
    if (statement.kind !== 'let' && statement.kind !== 'param') continue;
    const first = definitions.get(statement.name.text);
    if (first === undefined) definitions.set(statement.name.text, statement);
    else diagnostics.push(problem.duplicateName(statement.name, first.name.span));
  }
  return definitions;
}

interface CollectedBlocks {
  readonly named: ReadonlyMap<string, NamedBlock>;
  readonly statements: ReadonlyMap<string, BlockStatement>;
}

/** Every name before any is used, so that the order of blocks does not matter. */
function collectBlocks(blocks: readonly BlockStatement[], diagnostics: Diagnostic[]): CollectedBlocks {
  const named = new Map<string, NamedBlock>();
  const statements = new Map<string, BlockStatement>();
  for (const block of blocks) {
    const { blockKind, name } = block;
    const kind: BlockKind | 'unknown' = isBlockKind(blockKind.text) ? blockKind.text : 'unknown';
    if (kind === 'unknown') diagnostics.push(problem.unknownKind(blockKind, nearest(blockKind.text, blockKinds)));
    if (name === undefined || kind === 'save') continue;
    const text = 'text' in name ? name.text : name.parts.filter((part) => typeof part === 'string').join('');
    const first = named.get(text);
    if (!('text' in name) && kind !== 'unknown') diagnostics.push(problem.quotedName(name.span, kind, text));
    if (first !== undefined) {
      diagnostics.push(problem.duplicateName({ text, span: name.span }, first.span));
    } else {
      named.set(text, { kind, span: name.span });
      statements.set(text, block);
    }
  }
  return { named, statements };
}

/** The block in all of its own variants. `undefined` when none of them is right, after complaining about all of it. */
function checkBlock(scope: Scope, block: BlockStatement, sweeps: Sweeps): VariedBlock | undefined {
  const kind = block.blockKind.text;
  if (!isBlockKind(kind)) return undefined;
  const { entries, exclusions } = splitExclude(attributesOf(scope, block, scope.statements), kind, scope.report);
  const check = (inVariant: Scope) => checkVariant(inVariant, { block, kind, entries });
  const { found, areTooMany } = inEveryVariant(scope, { sweeps, exclusions, check });
  const called = block.name !== undefined && 'text' in block.name ? `"${block.name.text}"` : `this ${kind} block`;
  if (areTooMany) {
    const met = new Set(found.flatMap(({ point }) => [...point.keys()]));
    const shown = [...met].map(({ path, values }) => `${values.length} of ${path}`);
    scope.report(problem.tooManyVariants(block.header, { name: called, most: mostVariants, sweeps: shown }));
    return undefined;
  }
  const variants = found.flatMap(({ point, result }) => (result === undefined ? [] : [{ point, block: result }]));
  return variants.length === 0 ? undefined : { called, span: block.header, variants, exclusions };
}

interface WrittenBlock {
  readonly block: BlockStatement;
  readonly kind: BlockKind;
  /** With those of the blocks that it extends. */
  readonly entries: readonly Attribute[];
}

/** `undefined` when anything is wrong with it, after complaining about all of it. */
function checkVariant(scope: Scope, { block, kind, entries }: WrittenBlock): CheckedBlock | undefined {
  const name = nameOf(scope, block);
  const owner = kind === 'save' || name === undefined ? `This ${kind} block` : `The ${kind} block "${name}"`;
  const checked = checkFields(scope, { fields: fieldsOf(kind), entries, owner, ownerSpan: block.header });
  // The one place where what the table promises about a kind and what was checked by it meet.
  const { values: attributes, spans: attributeSpans, isWhole } = checked;
  const found = {
    ...{ kind, name: name ?? '', variant: undefined, span: block.header },
    ...{ attributes, attributeSpans },
  } as unknown as CheckedBlock;
  const ruled = applyRules(scope, found, isWhole);
  return isWhole && name !== undefined ? ruled : undefined;
}

function nameOf(scope: Scope, { blockKind, name }: BlockStatement): string | undefined {
  if (name === undefined) return undefined;
  if (blockKind.text !== 'save') return 'text' in name ? name.text : joinText(scope, name);
  if ('text' in name) {
    scope.report(problem.saveName(name));
    return undefined;
  }
  const path = joinText(scope, name);
  if (path === undefined) return undefined;
  if (path.trim() === '') scope.report(problem.emptyText(name.span, 'save'));
  else if (/[\n\t\r\0]/.test(path)) scope.report(problem.oddPath(name.span, sourceText(name.span)));
  else if (!complainOfSlashes(scope, name)) return path;
  return undefined;
}

/** Text that is written into a path may make folders; a value of many, which stands elsewhere, hardly wants to. */
function complainOfSlashes(scope: Scope, { parts }: TextExpression): boolean {
  const odd = parts.flatMap((part) => {
    const label = typeof part === 'string' ? undefined : sweptLabel(scope, part);
    return label !== undefined && /[\\/]/.test(label) ? [{ span: (part as Expression).span, label }] : [];
  });
  for (const { span, label } of odd) scope.report(problem.slashInPath(span, label));
  return odd.length > 0;
}
