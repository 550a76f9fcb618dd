// lorac export --sd-scripts: a training of a program as the command that sd-scripts would need.

import { exportSdScripts } from '../foreign/export-sd-scripts.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import type { BlockOf, CheckedProgram } from '../parser/model.ts';
import { resolvePath } from '../runtime/graph/paths.ts';
import { compileOrExplain, type ProgramOptions } from './compile-file.ts';
import { placesOfUser } from './places.ts';
import { splitArguments } from './program-file.ts';
import { UsageError } from './usage-error.ts';

export interface ExportCommand extends ProgramOptions {
  readonly train: string | undefined;
  readonly sdScripts?: boolean;
}

export async function exportTraining(options: ExportCommand): Promise<number> {
  if (!options.sdScripts) {
    throw new UsageError('For which trainer is not said.', 'there is one so far: lorac export --sd-scripts hero.lora');
  }
  const { file, targets } = splitArguments(options.file, options.train === undefined ? [] : [options.train]);
  if (targets.length > 1) throw new UsageError(`One training at a time, and these are ${targets.length} names.`);
  const program = compileOrExplain({ ...options, file });
  if (program === undefined) return 2;
  const train = chosen(program, targets[0]);
  const places = placesOfUser();
  process.stdout.write(exportSdScripts({ program, train, at: (path) => resolvePath(path, places) }));
  return 0;
}

function chosen(program: CheckedProgram, name: string | undefined): BlockOf<'train'> {
  const all = program.blocks.filter((block) => block.kind === 'train');
  const names = all.map((block) => block.name);
  const [only] = all;
  if (only === undefined) throw new UsageError('The program trains nothing.', 'only a train block can be exported');
  if (name === undefined) {
    if (all.length === 1) return only;
    throw new UsageError(`The program has ${all.length} trainings.`, `name one of ${names.join(', ')}`);
  }
  const found = all.find((block) => block.name === name);
  if (found !== undefined) return found;
  const meant = nearest(name, names);
  throw new UsageError(
    `There is no training "${name}".`,
    `${meant === undefined ? '' : `perhaps ${meant}; `}there is ${names.join(', ')}`,
  );
}
