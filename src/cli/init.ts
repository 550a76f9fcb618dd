// lorac init: a first program for a folder of images. It looks before it asks, and asks at most four things: the name,
// the checkpoint, what to do about missing captions, and whether a file that is there may be replaced.

import { existsSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, relative, resolve, sep } from 'node:path';
import { cleanLine } from '../parser/clean-text.ts';
import { format } from '../parser/format/format.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import { count, size } from '../tui/units.ts';
import { NoAnswer, openQuestions, type Questions, type Terminal } from './init/ask.ts';
import { type FoundModel, findModels } from './init/models.ts';
import { lookAtPictures, type Pictures, promptsIn } from './init/pictures.ts';
import { firstProgram } from './init/program.ts';
import { INTERRUPTED } from './stop.ts';
import { UsageError } from './usage-error.ts';

export interface InitCommand {
  readonly folder: string | undefined;
  readonly yes?: boolean;
  readonly name?: string;
}

export interface InitWorld {
  /** Where the program goes. */
  readonly here: AbsolutePath;
  readonly home: AbsolutePath;
  /** LORAC_MODELS. */
  readonly modelFolders: string | undefined;
  /** `undefined` where there is nobody to answer. */
  readonly terminal: Terminal | undefined;
  readonly say: (line: string) => void;
}

export async function init(command: InitCommand): Promise<number> {
  const isWatched = process.stdin.isTTY && process.stdout.isTTY;
  return initIn(command, {
    here: absolutePath(process.cwd()),
    home: absolutePath(homedir()),
    modelFolders: process.env.LORAC_MODELS,
    terminal: isWatched && !command.yes ? { input: process.stdin, output: process.stdout } : undefined,
    say: (line) => process.stdout.write(`${cleanLine(line)}\n`),
  });
}

export async function initIn(command: InitCommand, world: InitWorld): Promise<number> {
  const { here, say } = world;
  const folder = absolutePath(resolve(here, command.folder ?? '.'));
  const pictures = await picturesIn(folder, command.folder ?? '.');
  const models = await findModels({ folders: [here, pictures.folder], home: world.home, named: world.modelFolders });
  say(
    `found ${count(pictures.count, 'image')} in ${shown(pictures.folder, here)}, ${count(pictures.captions.count, 'caption')}, ${count(models.length, 'SDXL checkpoint')}`,
  );
  using questions = world.terminal && openQuestions(world.terminal);
  try {
    return await write(command, { ...world, pictures, models, questions });
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    say('');
    say('Nothing was written.');
    return INTERRUPTED;
  }
}

async function picturesIn(folder: AbsolutePath, written: string): Promise<Pictures> {
  const facts = statSync(folder, { throwIfNoEntry: false });
  if (facts === undefined) throw new UsageError(`There is no folder ${written}.`);
  if (!facts.isDirectory())
    throw new UsageError(`${written} is no folder.`, 'name the folder with the images to learn from');
  const pictures = await lookAtPictures(folder);
  if (pictures !== undefined) return pictures;
  throw new UsageError(
    `There is no PNG, JPEG or WebP image in ${written}, nor below it.`,
    'name the folder with the images to learn from: lorac init pictures',
  );
}

interface Found extends InitWorld {
  readonly pictures: Pictures;
  readonly models: readonly FoundModel[];
  readonly questions: Questions | undefined;
}

async function write(command: InitCommand, found: Found): Promise<number> {
  const { here, say, pictures, questions } = found;
  const name = await nameFor(command, found);
  const checkpoint = await checkpointFor(found);
  const captionMissing = await captionMissingFor(found);
  const file = absolutePath(resolve(here, `${name}.lora`));
  await requireFree(file, questions);
  const prompts = promptsFor(name, found);
  const program = firstProgram({
    name,
    pictures,
    images: shown(pictures.folder, here),
    checkpoint: checkpoint && shown(checkpoint.path, here),
    prompts,
    captionMissing,
  });
  writeFileSync(file, format(program).text);
  say(`wrote ${name}.lora`);
  if (checkpoint === undefined) {
    say(
      `No SDXL checkpoint was found: write the path of one into ${name}.lora before you build. LORAC_MODELS can name folders to look in.`,
    );
  }
  say(`next: lorac lint ${name}.lora, then lorac build ${name}.lora`);
  return 0;
}

/** As a program in `here` writes it: relative where it lies there or close by. */
function shown(path: AbsolutePath, here: AbsolutePath): string {
  const way = relative(here, path).replaceAll(sep, '/');
  if (way === '') return '.';
  return way.startsWith('../../../') ? path : way;
}

async function nameFor({ name }: InitCommand, { pictures, questions }: Found): Promise<string> {
  const asked = name ?? (await questions?.text('What shall the LoRA be called?', pictures.subject)) ?? pictures.subject;
  const usable = basename(asked, '.lora')
    .replaceAll(/[^\p{L}\p{N}_-]+/gu, '-')
    .replaceAll(/^-+|-+$/g, '');
  if (usable === '') throw new UsageError(`"${asked}" is no name for a file.`, 'use letters, numbers, - and _');
  return usable;
}

/** So many are shown; nobody reads a longer list. */
const MOST_CHOICES = 12;

async function checkpointFor({ models, questions, here }: Found): Promise<FoundModel | undefined> {
  const [first] = models;
  if (questions === undefined || models.length < 2) return first;
  const listed = models.slice(0, MOST_CHOICES);
  const choices = listed.map(({ path, sizeBytes }) => `${shown(path, here)} (${size(sizeBytes)})`);
  return listed[await questions.choice('Which checkpoint is it to be trained on?', choices)];
}

async function captionMissingFor({ pictures, questions }: Found): Promise<'error' | 'folder' | 'empty'> {
  const { captions, style } = pictures;
  if (captions.count === pictures.count) return 'error';
  const usual = style === 'kohya' ? 'folder' : 'empty';
  if (questions === undefined || captions.count === 0) return usual;
  const missing = pictures.count - captions.count;
  const choices = [
    style === 'kohya' ? 'take the words of its folder' : 'train on it without a caption',
    'write the captions first: until then, a build says which are missing',
  ];
  const answer = await questions.choice(
    `${missing === 1 ? '1 image has' : `${missing} images have`} no caption. What then?`,
    choices,
  );
  return answer === 0 ? usual : 'error';
}

async function requireFree(file: AbsolutePath, questions: Questions | undefined): Promise<void> {
  if (!existsSync(file)) return;
  const name = basename(file);
  if (questions !== undefined && (await questions.yes(`There is a file ${name} already. Replace it?`))) return;
  if (questions !== undefined) throw new NoAnswer();
  throw new UsageError(`There is a file ${name} already.`, 'give another name: lorac init --name other');
}

/** Prompts that are there, or captions that are: what one has just described is what one wants to see. */
function promptsFor(name: string, { here, pictures }: Found): string | undefined {
  const known = promptsIn(pictures);
  if (known !== undefined) return shown(known, here);
  const file = absolutePath(resolve(here, `${name}-prompts.txt`));
  if (existsSync(file)) return basename(file);
  if (pictures.captions.examples.length === 0) return undefined;
  writeFileSync(file, `${pictures.captions.examples.map((caption) => cleanLine(caption)).join('\n')}\n`);
  return basename(file);
}
