// A checked program: names resolved, kinds checked, defaults filled in. Whoever holds one need not check it again.
// The types of the attributes are inferred from the schema table.

import type { AttributesOf, BlockKind } from './schema/schema.ts';
import type { SourceFile, Span } from './source.ts';

export type { AttributesOf, BlockKind } from './schema/schema.ts';
export type {
  Arguments,
  Duration,
  ProgramPath,
  Reference,
  RunOutput,
  ScheduleExpression,
  Size,
  StepChoice,
  Steps,
  WeightedReference,
} from './values.ts';
export { keptSteps, nameOfReference, savedSteps } from './values.ts';

export interface CheckedProgram {
  readonly source: SourceFile;
  /** In the order they are written. */
  readonly blocks: readonly CheckedBlock[];
}

export interface BlockOf<K extends BlockKind> {
  readonly kind: K;
  /** For `save`, the path. Of a variant `small[thr=-3]`. */
  readonly name: string;
  /** Which variant of a block this is, where a sweep makes several. */
  readonly variant: Variant | undefined;
  /** The kind and the name, as written. */
  readonly span: Span;
  /** Every attribute of the kind. */
  readonly attributes: AttributesOf<K>;
  /** Where each value is written; `undefined` where it is the default. */
  readonly attributeSpans: { readonly [A in keyof AttributesOf<K>]: Span | undefined };
}

export interface Variant {
  /** The name that is written. */
  readonly of: string;
  /** One for each sweep that makes variants of the block. */
  readonly values: readonly {
    readonly sweep: string;
    /** The value as it is written, or the name that it has in the sweep. */
    readonly label: string;
    /** What stands for the value in a text, `${small.thr}`; `undefined` where nothing does. */
    readonly inText: string | undefined;
  }[];
}

export type CheckedBlock = { [K in BlockKind]: BlockOf<K> }[BlockKind];
