// What the server asks about programs that have no mistakes. The front door hands it in: it knows where programs' files
// and stores lie.

import type { ImportedFiles } from '../parser/check.ts';
import type { Environment } from '../parser/checking/environment.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import type { CheckedProgram } from '../parser/model.ts';
import type { SourceFile } from '../parser/source.ts';
import type { Store } from '../runtime/cache/store.ts';
import type { Graph } from '../runtime/graph/graph.ts';

export interface Project {
  /** The variables that `env("NAME")` reads. */
  readonly environment: Environment;
  /** What imports lead to: what is open in the place of what lies on the disk. */
  files(unsaved: (path: string) => SourceFile | undefined): ImportedFiles;
  /** Files that the program names and that are not there, and patterns that fit no layer. */
  mistakesOf(program: CheckedProgram): readonly Diagnostic[];
  graphOf(program: CheckedProgram): Graph;
  /** A store that reads none of the user's files. */
  peekingStoreOf(program: CheckedProgram): Store;
}
