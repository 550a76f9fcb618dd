// From what was written to what it means: names resolved, kinds checked, defaults filled in.
// A mistake in one place never stops the rest from being checked.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { blocksIn, type LinkedProgram } from '../imports/imports.ts';
import { type NamedBlock, type Namespace, nameAll } from '../imports/namespaces.ts';
import type { CheckedBlock, CheckedProgram } from '../model.ts';
import type { Attribute, BlockStatement, Expression, TextExpression } from '../reading/ast.ts';
import { isOddPath } from '../reading/literals.ts';
import { type BlockKind, fieldsOf, isBlockKind } from '../schema/schema.ts';
import { sourceText } from '../source.ts';
import { splitExclude } from '../sweeps/exclude.ts';
import { inWords, joinVariants, sweepsOf, type VariedBlock } from '../sweeps/join-variants.ts';
import { collectSweeps, type Sweeps } from '../sweeps/sweeps.ts';
import { inEveryVariant, mostVariants } from '../sweeps/variants.ts';
import { checkAcross } from './across-blocks.ts';
import { checkFields } from './check-fields.ts';
import { joinText, sweptLabel } from './check-text.ts';
import type { Environment } from './environment.ts';
import { attributesOf } from './extending.ts';
import { madeFrom } from './order.ts';
import { setParams } from './params.ts';
import { applyRules } from './rules.ts';
import { createScope, type Scope } from './scope.ts';

export interface Checking {
  readonly program: CheckedProgram;
  readonly diagnostics: readonly Diagnostic[];
}

export function checkProgram(
  linked: LinkedProgram,
  { params, environment }: { readonly params: ReadonlyMap<string, string>; readonly environment: Environment },
): Checking {
  const diagnostics: Diagnostic[] = [];
  const spaces = nameAll(linked, diagnostics);
  setParams(spaces, params, diagnostics);
  const asked = new Set<NamedBlock>();
  const scope = createScope(spaces, { environment, ask: (block) => asked.add(block) }, diagnostics);
  const sweeps = collectSweeps(spaces, scope.report);
  const own = blocksIn(linked.root).flatMap((block) => checkBlock(scope, { block, sweeps, prefix: '' }) ?? []);
  const imported = checkImported(scope, { spaces: spaces.slice(1), asked, sweeps });
  const joined = joinVariants(scope, [...own, ...imported]);
  const { source } = linked.root;
  // Of imported blocks all variants were made, and perhaps one is asked for.
  const blocks = madeFrom(
    joined,
    joined.filter(({ span }) => span.source === source),
  );
  checkAcross(scope, blocks);
  return { program: { source, blocks }, diagnostics };
}

/**
 * Of imported files, the blocks that the program is made from. All others are there to be extended: they may lack what
 * has to be written, and are told of everything else.
 */
function checkImported(
  scope: Scope,
  {
    spaces,
    asked,
    sweeps,
  }: {
    readonly spaces: readonly Namespace[];
    readonly asked: ReadonlySet<NamedBlock>;
    readonly sweeps: Sweeps;
  },
): readonly VariedBlock[] {
  const blocks: VariedBlock[] = [];
  const checked = new Set<BlockStatement>();
  const prefixes = new Map(spaces.map(({ module, prefix }) => [module.source, prefix]));
  // Grows while it is walked: what a block is made from is asked for as well.
  for (const { statement: block } of asked) {
    const prefix = block && prefixes.get(block.header.source);
    if (block === undefined || prefix === undefined) continue;
    checked.add(block);
    const found = checkBlock(scope, { block, sweeps, prefix });
    if (found !== undefined) blocks.push(found);
  }
  const lenient: Scope = {
    ...scope,
    ask: () => {},
    report: (diagnostic) => (diagnostic.code === 'missing-attribute' ? undefined : scope.report(diagnostic)),
  };
  for (const { module, prefix } of spaces) {
    for (const block of blocksIn(module)) {
      if (!checked.has(block)) checkBlock(lenient, { block, sweeps, prefix, isToExtend: true });
    }
  }
  return blocks;
}

interface BlockToCheck {
  readonly block: BlockStatement;
  readonly sweeps: Sweeps;
  /** What stands before its name in the program. */
  readonly prefix: string;
  /** Then it need not be whole, and rules about what goes together apply where it is. */
  readonly isToExtend?: boolean;
}

/** The block in all of its own variants. `undefined` when none of them is right, after complaining about all of it. */
function checkBlock(
  scope: Scope,
  { block, sweeps, prefix, isToExtend = false }: BlockToCheck,
): VariedBlock | undefined {
  const kind = block.blockKind.text;
  if (!isBlockKind(kind)) return undefined;
  const { entries, exclusions } = splitExclude(attributesOf(scope, block), kind, scope.report);
  const check = (inVariant: Scope) => checkVariant(inVariant, { block, kind, prefix, entries, isToExtend });
  const { found, areTooMany } = inEveryVariant(scope, { sweeps, exclusions, check });
  const called =
    block.name !== undefined && 'text' in block.name ? `"${prefix}${block.name.text}"` : `this ${kind} block`;
  if (areTooMany) {
    const shown = inWords(sweepsOf(found));
    scope.report(problem.tooManyVariants(block.header, { name: called, most: mostVariants, sweeps: shown }));
    return undefined;
  }
  const variants = found.flatMap(({ point, result }) => (result === undefined ? [] : [{ point, block: result }]));
  return variants.length === 0 ? undefined : { called, span: block.header, variants, exclusions };
}

interface WrittenBlock {
  readonly block: BlockStatement;
  readonly kind: BlockKind;
  readonly prefix: string;
  readonly isToExtend: boolean;
  /** With those of the blocks that it extends. */
  readonly entries: readonly Attribute[];
}

/** `undefined` when anything is wrong with it, after complaining about all of it. */
function checkVariant(
  scope: Scope,
  { block, kind, prefix, entries, isToExtend }: WrittenBlock,
): CheckedBlock | undefined {
  const name = nameOf(scope, block, prefix);
  const owner = kind === 'save' || name === undefined ? `This ${kind} block` : `The ${kind} block "${name}"`;
  const checked = checkFields(scope, { fields: fieldsOf(kind), entries, owner, ownerSpan: block.header });
  const { values: attributes, spans: attributeSpans, isWhole } = checked;
  if (isToExtend && !isWhole) return undefined;
  // The one place where what the table promises about a kind and what was checked by it meet.
  const found = {
    ...{ kind, name: name ?? '', variant: undefined, span: block.header },
    ...{ attributes, attributeSpans },
  } as unknown as CheckedBlock;
  const ruled = applyRules(scope, found, isWhole);
  return isWhole && name !== undefined ? ruled : undefined;
}

function nameOf(scope: Scope, { blockKind, name }: BlockStatement, prefix: string): string | undefined {
  if (name === undefined) return undefined;
  if (blockKind.text !== 'save') return `${prefix}${'text' in name ? name.text : joinText(scope, name)}`;
  if ('text' in name) {
    scope.report(problem.saveName(name));
    return undefined;
  }
  const path = joinText(scope, name);
  if (path === undefined) return undefined;
  if (path.trim() === '') scope.report(problem.emptyText(name.span, 'save'));
  else if (isOddPath(path)) scope.report(problem.oddPath(name.span, sourceText(name.span)));
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
