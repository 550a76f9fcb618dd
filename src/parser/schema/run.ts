// The row of the schema table for a command of the user's own.

import { loraKinds, pictureKinds } from './surgery.ts';
import { either, named, optional, reference, required, text } from './types.ts';

export const run = {
  command: required(
    text(),
    'A command line for bash. {name} stands for the path of an input or an output, quoted: write no quotes around it. It begins in the folder of the program.',
    { synonyms: ['cmd', 'shell', 'script', 'exec', 'args'] },
  ),
  inputs: optional(
    named(either(reference(...loraKinds, ...pictureKinds, 'run'), text('path'))),
    'What the command reads, by the names that it has there: LoRAs and pictures of other blocks, outputs of other runs, and files, in quotes.',
    { synonyms: ['input', 'in', 'files', 'reads', 'depends', 'deps', 'sources'] },
  ),
  outputs: required(
    named(text()),
    'The files that the command writes, by the names that they have there: { text = "report.txt" } is {text} in the command.',
    { synonyms: ['output', 'out', 'writes', 'targets', 'products'] },
  ),
  env: optional(named(text()), 'Environment variables for the command. All others are passed on as they are.', {
    synonyms: ['environment', 'variables', 'envs'],
  }),
  base: optional(
    reference('checkpoint'),
    'The checkpoint that LoRAs which it writes were trained on. Without it, that of the LoRAs which it reads.',
    { synonyms: ['base_model', 'checkpoint', 'trained_on'] },
  ),
};
