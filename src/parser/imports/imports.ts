// The files of a program: the one that is asked for, and what it imports, and what that imports.
//
// The parser room reads no files. Whoever has some hands in an `ImportedFiles`: the command line reads the disk, an
// editor has texts that nobody saved yet. What an import leads to is found breadth first and without recursion, each
// file once, and not without end. Circles are complained about and stay: whoever walks the files goes to each once.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockStatement, ImportStatement, Program } from '../reading/ast.ts';
import { type Reading, readSource } from '../reading/read-source.ts';
import type { SourceFile } from '../source.ts';

export interface ImportedFiles {
  /** Looks for what `written` names in an import of the file `from`. Never throws for what lies in a file, or does not. */
  load(written: string, from: SourceFile): Loaded;
  /** The `id` that the file itself would be loaded with, so that a program that imports itself is noticed. */
  identify(program: SourceFile): string;
}

export type Loaded =
  | {
      readonly status: 'found';
      /** One for each file, however it is spelt: an absolute path without links in it. */
      readonly id: string;
      /** Its path is shown in messages, and relative paths in the file start at its folder. */
      readonly source: SourceFile;
    }
  | { readonly status: 'problem'; readonly message: string; readonly hint?: string | undefined };

/** One file of a program. */
export interface Module {
  readonly source: SourceFile;
  readonly program: Program;
  readonly reading: Reading;
  readonly imports: readonly ModuleImport[];
}

export interface ModuleImport {
  readonly statement: ImportStatement;
  /** `undefined`: it cannot be used, which has been complained about. */
  readonly module: Module | undefined;
}

export interface LinkedProgram {
  readonly root: Module;
  /** The root first, then by how many imports away a file is. */
  readonly modules: readonly Module[];
  readonly diagnostics: readonly Diagnostic[];
}

/** More files, and more characters in all of those that are imported, than anyone writes. */
const mostFiles = 100;
const mostCharacters = 1_000_000;

interface GrowingModule extends Module {
  readonly id: string | undefined;
  readonly imports: { readonly statement: ImportStatement; readonly module: GrowingModule | undefined }[];
}

/** Reads all that the program imports. Without `files` nothing can be. */
export function linkProgram(reading: Reading, files: ImportedFiles | undefined): LinkedProgram {
  const diagnostics: Diagnostic[] = [];
  const modules: GrowingModule[] = [moduleOf(reading, files?.identify(reading.program.source))];
  let characters = 0;
  // Said once: what else a bomb would import is not even looked for.
  let isFull = false;

  const find = (importer: GrowingModule, statement: ImportStatement): GrowingModule | undefined => {
    const { path } = statement;
    if (path === undefined || isFull) return undefined;
    const complain = (diagnostic: Diagnostic): undefined => void diagnostics.push(diagnostic);
    const loaded = files?.load(path.text, importer.source) ?? noFiles;
    if (loaded.status === 'problem') return complain(problem.importFailed(path.span, loaded));
    const twice = importer.imports.find((other) => other.module?.id === loaded.id);
    if (twice !== undefined) return complain(problem.importedTwice(path.span, twice.statement.span));
    if (importer.id === loaded.id) return complain(problem.importsItself(path.span));
    const known = modules.find(({ id }) => id === loaded.id);
    if (known !== undefined) return known;
    characters += loaded.source.text.length;
    isFull = modules.length > mostFiles || characters > mostCharacters;
    if (modules.length > mostFiles) return complain(problem.tooManyFiles(path.span, mostFiles));
    if (isFull) return complain(problem.tooMuchImported(path.span, mostCharacters));
    const module = moduleOf(readSource(loaded.source), loaded.id);
    modules.push(module);
    return module;
  };

  // Grows while it is walked.
  for (const module of modules) {
    for (const statement of module.program.statements) {
      if (statement.kind === 'import') module.imports.push({ statement, module: find(module, statement) });
    }
  }
  const root = modules[0] as Module;
  reportCircles(root, diagnostics);
  return { root, modules, diagnostics };
}

/** The blocks of a file, as they are written. */
export function blocksIn({ program }: Module): readonly BlockStatement[] {
  return program.statements.filter((statement) => statement.kind === 'block');
}

const noFiles: Loaded = { status: 'problem', message: 'Nothing can be imported here.' };

function moduleOf(reading: Reading, id: string | undefined): GrowingModule {
  const { program } = reading;
  return { source: program.source, id, reading, program, imports: [] };
}

/** Depth first, with a stack of its own. Each import that leads back to a file on the way closes a circle. */
function reportCircles(start: Module, diagnostics: Diagnostic[]): void {
  const path = [{ module: start, next: 0 }];
  const finished = new Set<Module>();
  for (let visit = path.at(-1); visit !== undefined; visit = path.at(-1)) {
    const { module } = visit;
    const imported = module.imports[visit.next];
    visit.next += 1;
    if (imported === undefined) {
      finished.add(module);
      path.pop();
    } else if (imported.module !== undefined && !finished.has(imported.module)) {
      const begin = path.findIndex((other) => other.module === imported.module);
      if (begin < 0) path.push({ module: imported.module, next: 0 });
      else diagnostics.push(problem.importCircle(path.slice(begin).map(stepOf)));
    }
  }
}

const stepOf = ({ module, next }: { readonly module: Module; readonly next: number }) => ({
  file: module.source.path,
  span: (module.imports[next - 1] as ModuleImport).statement.span,
});
