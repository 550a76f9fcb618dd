// Everything that can be wrong with a .lora file: one factory per problem, sorted by code.
// A message says what was found and what was needed; what to write instead stands in the hint.

/** What can be built, and is most likely not what is wanted. */
export * from './care-diagnostics.ts';
/** What stands behind "@". */
export * from './choice-diagnostics.ts';
/** What can be read, and is no dataset. */
export * from './dataset-diagnostics.ts';
export type { Diagnostic, Fix, Related } from './diagnostic.ts';
/** Images on their way into training. */
export * from './image-diagnostics.ts';
/** Other files. */
export * from './import-diagnostics.ts';
/** What can be read, and makes no sense. */
export * from './meaning-diagnostics.ts';
/** Learning rates, and what changes them. */
export * from './rate-diagnostics.ts';
/** Commands of the user's own. */
export * from './run-diagnostics.ts';
/** What can be read, and cannot be done to LoRAs. */
export * from './surgery-diagnostics.ts';
/** Values of which each makes a variant. */
export * from './sweep-diagnostics.ts';
/** What cannot be read, or only with good will. */
export * from './syntax-diagnostics.ts';
/** What can be read, and is no training. */
export * from './training-diagnostics.ts';
