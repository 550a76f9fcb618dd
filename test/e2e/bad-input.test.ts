// What goes wrong on real machines. Each is told with the file or place, what to do, and the right exit code.

import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Project, program } from './project.ts';

interface Trouble {
  readonly name: string;
  readonly make: (project: Project) => Promise<void>;
  readonly exitCode: 1 | 2;
  /** What the user has to be able to read. */
  readonly says: readonly (string | RegExp)[];
  readonly env?: Record<string, string>;
}

const edit = (from: string | RegExp, to: string) => (project: Project) =>
  project.edit('hero.lora', (text) => text.replace(from, to));

const troubles: readonly Trouble[] = [
  {
    name: 'a misspelt attribute',
    make: edit('steps = 6', 'stepz = 6'),
    exitCode: 2,
    says: ['hero.lora:14:3', 'stepz', 'similar name: steps'],
  },
  {
    name: 'a value of the wrong type',
    make: edit('steps = 6', 'steps = "six"'),
    exitCode: 2,
    says: ['hero.lora:14:11', '"steps" needs a whole number'],
  },
  {
    name: 'an unknown name',
    make: edit('data = hero', 'data = heroo'),
    exitCode: 2,
    says: ['hero.lora:12:10', 'heroo', 'similar name: hero'],
  },
  {
    name: 'a missing brace and a misspelt name behind it',
    make: async (project) => {
      await edit('thr = -3.55 }', 'thr = -3.55')(project);
      await edit('from = small', 'from = smal')(project);
    },
    exitCode: 2,
    says: ['"resize small" is not closed', 'smal', 'similar name: small', '2 errors'],
  },
  {
    name: 'a cycle',
    make: edit('from = raw ', 'from = tiny '),
    exitCode: 2,
    says: ['made from each other', '"small" → "tiny" → "small"'],
  },
  {
    name: 'a missing folder, a missing checkpoint and a missing prompt file, all told at once',
    make: async (project) => {
      await rm(project.path('images'), { recursive: true });
      await rm(project.path('base.safetensors'));
      await rm(project.path('prompts.txt'));
    },
    exitCode: 2,
    says: [/hero\.lora:5:\d+/, '/images"', /hero\.lora:2:\d+/, '/base.safetensors"', '/prompts.txt"', '3 errors'],
  },
  {
    name: 'a folder without images',
    make: async (project) => {
      await rm(project.path('images'), { recursive: true });
      await mkdir(project.path('images'));
      await writeFile(project.path('images', 'readme.txt'), 'nothing here');
    },
    exitCode: 1,
    says: ['dataset "hero"', '/images', 'no PNG, JPEG or WebP image'],
  },
  {
    name: 'a missing caption, a truncated JPEG, WebP and an empty PNG, all told at once and before any training',
    make: async (project) => {
      await rm(project.path('images', '01-standing.txt'));
      await truncate(project.path('images', '02-waving.jpg'), 4000);
      await truncate(project.path('images', '06-square.webp'), 2000);
      await truncate(project.path('images', '04-wide.png'), 0);
    },
    exitCode: 1,
    says: [
      '4 problems',
      /01-standing\.png: .*no caption/,
      /02-waving\.jpg: .*cut off/,
      /06-square\.webp: .*cut off/,
      /04-wide\.png: .*empty/,
      'raw skipped',
    ],
  },
  {
    name: 'a checkpoint that is a LoRA',
    make: async (project) => {
      const tensors = {
        'lora_unet_input_blocks_1_0_in_layers_2.alpha': { dtype: 'F32', shape: [], data_offsets: [0, 4] },
      };
      await writeFile(project.path('base.safetensors'), safetensors(tensors, 4));
    },
    exitCode: 1,
    says: ['/base.safetensors" is a LoRA, and a checkpoint is needed'],
  },
  {
    name: 'a pickled checkpoint',
    make: async (project) => {
      await writeFile(project.path('base.ckpt'), Buffer.from('80047d942e', 'hex'));
      await edit('base.safetensors', 'base.ckpt')(project);
    },
    exitCode: 2,
    says: [/hero\.lora:2:\d+/, '"base.ckpt" is a pickled file', '.safetensors'],
  },
  {
    name: 'a truncated checkpoint',
    make: async (project) => await truncate(project.path('base.safetensors'), 20_000_000),
    exitCode: 1,
    says: ['/base.safetensors"', 'cut off', 'fetch it again'],
  },
  {
    name: 'a machine without Python',
    make: async () => {},
    // An empty PATH hides every interpreter, and an empty cache what was installed.
    env: { PATH: '/nonexistent', LORAC_PYTHON: '', LORAC_CACHE: '/nonexistent/cache' },
    exitCode: 1,
    says: ['needs Python 3.10', 'hint: '],
  },
  {
    name: 'an interpreter that is none',
    make: async () => {},
    env: { LORAC_PYTHON: '/bin/true' },
    exitCode: 1,
    says: ['LORAC_PYTHON', '/bin/true', 'hint: '],
  },
];

describe('bad input', () => {
  let pristine: Project;
  let project: Project;
  let count = 0;

  beforeAll(async () => {
    pristine = await Project.open();
  });
  afterAll(async () => await pristine[Symbol.asyncDispose]());
  beforeEach(async () => {
    count += 1;
    project = await pristine.copyInputs(`trouble-${count}`);
    await writeFile(project.path('hero.lora'), program);
  });

  test.each(troubles)('$name', async ({ make, exitCode, says, env }) => {
    await make(project);
    const outcome = await project.lorac(['build', 'hero.lora', '--reporter', 'plain'], env);
    const text = `${outcome.stdout}\n${outcome.stderr}`.replaceAll(/ +/g, ' ');
    for (const words of says) expect(text).toMatch(words instanceof RegExp ? words : literal(words));
    expect(text).not.toMatch(/our bug|Traceback|\bat .*\.[jt]s:\d+/);
    expect(outcome.exitCode).toBe(exitCode);
  });
});

function literal(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
}

function safetensors(tensors: object, dataBytes: number): Buffer {
  const header = Buffer.from(JSON.stringify(tensors));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(dataBytes)]);
}
