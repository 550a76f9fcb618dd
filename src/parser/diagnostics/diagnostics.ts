// Everything that can be wrong with a .lora file: one factory per problem, sorted by code.
// A message says what was found and what was needed; what to write instead stands in the hint.

/** What can be built, and is most likely not what is wanted. */
export * from './care.ts';
/** What stands behind "@". */
export * from './choice.ts';
/** What can be read, and is no dataset. */
export * from './dataset.ts';
export type { Diagnostic, Fix, Related } from './diagnostic.ts';
/** Images on their way into training. */
export * from './image.ts';
/** Other files. */
export * from './import.ts';
/** What can be read, and makes no sense. */
export * from './meaning.ts';
/** Learning rates, and what changes them. */
export * from './rate.ts';
/** Commands of the user's own. */
export * from './run.ts';
/** What can be read, and cannot be done to LoRAs. */
export * from './surgery.ts';
/** Values of which each makes a variant. */
export * from './sweep.ts';
/** What cannot be read, or only with good will. */
export * from './syntax.ts';
/** What can be read, and is no training. */
export * from './training.ts';
