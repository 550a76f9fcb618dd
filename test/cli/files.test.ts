import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { missingFiles } from '../../src/cli/missing-files.ts';
import { placesOfUser } from '../../src/cli/places.ts';
import { readProgram, splitArguments } from '../../src/cli/program-file.ts';
import { namedStoreFolder } from '../../src/cli/user-store.ts';
import { compile } from '../../src/parser/check.ts';
import { positionOf } from '../../src/parser/source.ts';

let folder: string;
const before = process.cwd();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lorac-cli-'));
  process.chdir(folder);
});

afterEach(() => {
  vi.unstubAllEnvs();
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

test('the only .lora file of a folder needs no name', () => {
  writeFileSync('hero.lora', '# it');
  expect(readProgram(undefined)).toEqual({ path: 'hero.lora', text: '# it' });
});

test('a folder without, or with several, is told', () => {
  expect(() => readProgram(undefined)).toThrow(/There is no \.lora file in/);
  writeFileSync('a.lora', '');
  writeFileSync('b.lora', '');
  expect(() => readProgram(undefined)).toThrow(/There are 2 \.lora files in/);
});

test('a folder may stand for the only program in it', () => {
  mkdirSync('pack');
  writeFileSync('pack/hero.lora', '');
  expect(readProgram('pack').path).toBe(join('pack', 'hero.lora'));
});

test('a name that is no file, and bytes that are no text, are said', () => {
  writeFileSync('other.lora', '');
  expect(() => readProgram('hero.lora')).toThrow('There is no file hero.lora.');
  writeFileSync('image.lora', Buffer.from([0x89, 0x50, 0xff, 0xd8]));
  expect(() => readProgram('image.lora')).toThrow(/not UTF-8/);
});

test('a checkpoint in place of a program is not read', () => {
  writeFileSync('pony.safetensors', '');
  truncateSync('pony.safetensors', 6_900_000_000);
  expect(() => readProgram('pony.safetensors')).toThrow('pony.safetensors is too large for a program.');
});

test('the mark that some editors put in front of a text is no part of it', () => {
  writeFileSync('hero.lora', '\ufeff# it');
  expect(readProgram(undefined).text).toBe('# it');
});

test('words before the options are a file or targets, told apart by their looks', () => {
  mkdirSync('raw');
  expect(splitArguments('hero.lora', ['raw'])).toEqual({ file: 'hero.lora', targets: ['raw'] });
  expect(splitArguments('raw', ['tiny'])).toEqual({ file: undefined, targets: ['raw', 'tiny'] });
  expect(splitArguments('./raw', [])).toEqual({ file: './raw', targets: [] });
  expect(splitArguments(undefined, [])).toEqual({ file: undefined, targets: [] });
});

test('files that a program names and that are not there are pointed at', () => {
  mkdirSync('images');
  const text = `checkpoint pony { path = "models/pony.safetensors" }
dataset here { images = "images/**/*.png" }
dataset gone { images = ["pictures/**/*.{png,jpg}", "images"] }
train raw { base = pony  data = here  sample = { prompts = "prompts.txt" } }
train two { base = pony  data = gone }
`;
  const source = { path: 'hero.lora', text };
  const { program, diagnostics } = compile(source, { params: new Map() });
  expect(diagnostics).toEqual([]);
  const found = program && missingFiles(program, placesOfUser());
  expect(found?.map(({ message, span }) => `${positionOf(span).line}: ${message.replace(process.cwd(), '.')}`)).toEqual(
    [
      '1: There is no file "./models/pony.safetensors".',
      '3: There is no folder "./pictures".',
      '4: There is no file "./prompts.txt".',
    ],
  );
});

test('so are LoRAs, the prompts of pictures, and what commands read', () => {
  writeFileSync('pony.safetensors', '');
  const text = `checkpoint pony { path = "pony.safetensors" }
lora hero { path = "hero.safetensors"  base = pony }
preview grid { loras = [hero]  prompts = "prompts.txt" }
analyze what { from = hero  prompts = "other.txt" }
analyze numbers { from = hero }
run report { command = "x {lora} {tool} {o}"  inputs = { lora = hero  tool = "tool.py" }  outputs = { o = "o.txt" } }
`;
  const source = { path: 'hero.lora', text };
  const { program } = compile(source, { params: new Map() });
  const found = program && missingFiles(program, placesOfUser());
  expect(found?.map(({ message, span }) => `${positionOf(span).line}: ${message.replace(process.cwd(), '.')}`)).toEqual(
    [
      '2: There is no file "./hero.safetensors".',
      '3: There is no file "./prompts.txt".',
      '4: There is no file "./other.txt".',
      '6: There is no file "./tool.py".',
    ],
  );
});

test('a folder in place of a file is told, and the one file in it that can be meant', () => {
  mkdirSync('adapter');
  mkdirSync('many');
  writeFileSync('adapter/adapter_model.safetensors', '');
  writeFileSync('adapter/adapter_config.json', '');
  for (const name of ['a', 'b']) writeFileSync(`many/${name}.safetensors`, '');
  const text = 'lora one { path = "adapter/" } lora many { path = "many" } checkpoint base { path = "many" }';
  const source = { path: 'hero.lora', text };
  const { program } = compile(source, { params: new Map() });
  const found = program && missingFiles(program, placesOfUser());
  expect(found?.map(({ message, hint }) => [message.replace(process.cwd(), '.'), hint])).toEqual([
    ['"./adapter" is a folder, and a file is needed.', 'Write "adapter/adapter_model.safetensors"'],
    ['"./many" is a folder, and a file is needed.', undefined],
    [
      '"./many" is a folder, and a file is needed.',
      'Name the .safetensors file, or the folder of a diffusers model, with "unet" and "vae" right in it.',
    ],
  ]);
});

test('the folder of a diffusers model is a checkpoint, and what is missing of it is told', () => {
  const parts = ['unet', 'vae'].map((part) => `${part}/diffusion_pytorch_model.safetensors`);
  for (const name of [...parts, 'text_encoder/model.safetensors', 'text_encoder_2/pytorch_model.bin']) {
    mkdirSync(`sdxl/${dirname(name)}`, { recursive: true });
    writeFileSync(`sdxl/${name}`, '');
  }
  writeFileSync('sdxl/model_index.json', '{}');
  const text = 'checkpoint a { path = "sdxl" } checkpoint b { path = "sdxl/model_index.json" }';
  const source = { path: 'hero.lora', text };
  const { program } = compile(source, { params: new Map() });
  const look = () => (program ? missingFiles(program, placesOfUser()) : []);
  const message =
    '"./sdxl/text_encoder_2" has its weights as a pickle ("pytorch_model.bin"), and loading one runs code of whoever made it.';
  const found = look().map((each) => [each.code, each.message.replaceAll(process.cwd(), '.')]);
  expect(found).toEqual(Array(2).fill(['broken-folder', message]));
  writeFileSync('sdxl/text_encoder_2/model.safetensors', '');
  expect(look()).toEqual([]);
  rmSync('sdxl', { recursive: true });
  expect(look().map(({ code }) => code)).toEqual(['missing-file', 'missing-file']);
});

test('a file whose name is nearly that of another is answered with the other', () => {
  writeFileSync('Pony-v6.safetensors', '');
  const source = { path: 'hero.lora', text: 'checkpoint pony { path = "pony-v6.safetensor" }' };
  const { program } = compile(source, { params: new Map() });
  expect(program && missingFiles(program, placesOfUser()).map(({ hint }) => hint)).toEqual([
    'That folder has one with a similar name: "Pony-v6.safetensors"',
  ]);
});

test('LORAC_STORE names a folder, there or not, and never a file', () => {
  writeFileSync('taken', '');
  vi.stubEnv('LORAC_STORE', 'taken');
  expect(() => namedStoreFolder()).toThrow('LORAC_STORE is "taken", which is a file.');
  vi.stubEnv('LORAC_STORE', 'new');
  expect(namedStoreFolder()).toBe(join(process.cwd(), 'new'));
  vi.stubEnv('LORAC_STORE', '');
  expect(namedStoreFolder()).toBeUndefined();
});
