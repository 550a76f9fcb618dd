// Every feature of the server, as VS Code asks for it, on a program of 300 lines.

import { resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type {
  CodeAction,
  CodeLens,
  CompletionItem,
  DocumentSymbol,
  Hover,
  InlayHint,
  Location,
  Position,
  Range,
  TextEdit,
  WorkspaceEdit,
} from 'vscode-languageserver/node';
import { TextDocument } from 'vscode-languageserver-textdocument';
import { pngOf } from '../helpers/pictures.ts';
import { type TemporaryFolder, temporaryFolder } from '../helpers/temporary-folder.ts';
import { writeLora } from '../runtime/stages/lora-files.ts';
import { type Editor, type OpenText, openEditor } from './editor.ts';
import { program } from './program.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

let folder: TemporaryFolder;
let editor: Editor;

beforeAll(async () => {
  folder = temporaryFolder();
  folder.write({
    'models/pony.safetensors': '',
    'images/hero/a.png': pngOf({ width: 64, height: 64, shade: 1 }),
    'images/hero/a.txt': 'a fox',
    'images/hero/b.png': pngOf({ width: 64, height: 64, shade: 2 }),
    'images/hero/b.txt': 'two foxes',
    'images/villain/c.png': pngOf({ width: 64, height: 64, shade: 3 }),
    'images/villain/c.txt': 'a crow',
    'more/d.png': pngOf({ width: 64, height: 64, shade: 4 }),
    'more/d.txt': 'a crow',
  });
  await writeLora(folder.at('style.safetensors'));
  editor = await openEditor(folder.path, { commands: ['lorac.build'] });
}, 120_000);

afterAll(async () => {
  await editor[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

let opened = 0;

function open(text: string): OpenText {
  opened += 1;
  return editor.open(`program-${opened}.lora`, text);
}

function ask<Answer>(method: string, text: OpenText, params: object = {}): Promise<Answer> {
  return editor.connection.sendRequest(method, { textDocument: { uri: text.uri }, ...params });
}

const complete = async (text: OpenText, position: Position) => {
  const context = { triggerKind: 1 };
  return ask<CompletionItem[]>('textDocument/completion', text, { position, context });
};

const labels = (items: readonly CompletionItem[]) => items.map(({ label }) => label);

const hover = async (text: OpenText, marked: string) => {
  const found = await ask<Hover | null>('textDocument/hover', text, { position: text.at(marked) });
  return found === null ? null : (found.contents as { value: string }).value;
};

const written = (text: OpenText, range: Range) => {
  const document = TextDocument.create('', '', 0, text.text);
  return document.getText(range);
};

const apply = (text: OpenText, edits: readonly TextEdit[]) =>
  TextDocument.applyEdits(TextDocument.create('', '', 0, text.text), [...edits]);

test('the server says what it can do', () => {
  expect(editor.about).toMatchSnapshot({ serverInfo: { version: expect.any(String) } });
});

test('a program without mistakes has no diagnostics', async () => {
  expect(program.split('\n').length).toBeGreaterThan(290);
  expect(await open(program).diagnostics()).toEqual([]);
});

test('diagnostics follow an edit, for its version, with hint, code and the places that explain them', async () => {
  const text = open(program);
  await text.diagnostics();
  const version = text.replace('base      = pony', 'base      = hero');
  expect(await text.diagnostics(version)).toEqual([
    {
      range: { start: text.at('|hero\n  data      = hero'), end: text.at('hero|\n  data      = hero') },
      severity: 1,
      code: 'wrong-kind',
      source: 'lorac',
      message: expect.stringContaining('"base" needs a checkpoint here, and "hero" is a dataset.'),
      relatedInformation: [
        { message: '"hero" is defined here', location: { uri: text.uri, range: expect.anything() } },
      ],
    },
  ]);
  text.replace('base      = hero', 'base      = pony');
  expect(await text.diagnostics()).toEqual([]);
});

test('files that are not there are among the diagnostics', async () => {
  const text = open(program.replace('models/pony', 'models/ponny'));
  expect(await text.diagnostics()).toMatchObject([
    { code: 'missing-file', message: expect.stringContaining('similar name: "pony.safetensors"') },
  ]);
});

test('fast typing gets the diagnostics of what stands there in the end', async () => {
  const text = open(program);
  for (const letter of 'xyz') text.edit({ start: text.at('|Two characters'), end: text.at('|Two characters') }, letter);
  text.replace('steps           = 80', 'stepps          = 80');
  expect(await text.diagnostics()).toMatchObject([{ code: 'unknown-attribute' }]);
});

test('at the top, blocks are proposed with what they cannot do without', async () => {
  const text = open(`${program}\ntr`);
  const items = await complete(text, text.at('\n\ntr|'));
  expect(labels(items)).toEqual(expect.arrayContaining(['checkpoint', 'dataset', 'train', 'save', 'let', 'param']));
  const train = items.find(({ label }) => label === 'train');
  expect(train?.textEdit).toMatchObject({
    newText: 'train $(1:name} {\n  base = $(2:pony}\n  data = $(3:hero}\n  $0\n}'.replaceAll('$(', '${'),
    range: { start: text.at('\n\n|tr'), end: text.at('\n\ntr|') },
  });
});

test('in a block, settings are proposed that are not written yet, each with its documentation', async () => {
  const text = open(program);
  const items = await complete(text, text.at('  |save_every      = 10'));
  expect(labels(items)).toContain('seed');
  expect(labels(items)).not.toContain('unet_lr');
  expect(items.find(({ label }) => label === 'max_grad_norm')).toMatchObject({
    detail: 'a number, at least 0',
    documentation: { kind: 'markdown', value: expect.stringContaining('Longer gradients are shortened') },
    textEdit: { newText: expect.stringMatching(/^max_grad_norm/) },
  });
});

test('settings that have to be written come first', async () => {
  const text = open('train raw {\n  \n}');
  expect(labels(await complete(text, text.at('{\n  |'))).slice(0, 2)).toEqual(['base', 'data']);
});

test.each([
  ['base      = |pony', ['pony', 'project', 'rate', 'small_net']],
  ['data      = |hero', ['hero', 'villain', 'project', 'rate', 'small_net']],
  ['lr_scheduler    = |cosine', expect.arrayContaining(['cosine', 'constant'])],
  ['keep = [|OUT01', expect.arrayContaining(['IN', 'MID', 'OUT', 'OUT01', 'TE1', 'REST'])],
  ['raw0@|40', ['best', 'ema', 'ema(…)']],
  ['extends |hero', ['hero', 'villain']],
  ['optimizer = |SAVEUS', expect.arrayContaining(['SAVEUS', 'CAME'])],
  [`out/\${|project}`, ['project', 'rate', 'small_net']],
  ['bucket     = { |min', expect.not.arrayContaining(['max', 'step'])],
] as const)('completion at %j', async (marked, expected) => {
  const text = open(program);
  expect(labels(await complete(text, text.at(marked)))).toEqual(expected);
});

test('an output of a run is proposed where it fits: a LoRA where LoRAs go, all of them where files go', async () => {
  const text = open(`run report {
  command = "r {l} > {text} 2> {lora}"
  inputs = { l = "a.safetensors" }
  outputs = { text = "a.txt"  lora = "b.safetensors" }
}
resize small { from = report.lo }
save "a.txt" { from = report.te }
`);
  const [inLoras, inFiles] = [await complete(text, text.at('report.lo|')), await complete(text, text.at('report.te|'))];
  expect(labels(inLoras)).toEqual(['small', 'report.lora']);
  expect(labels(inFiles)).toEqual(['small', 'report.text', 'report.lora']);
});

test('the pictures of a training together are proposed where files go, once it makes some', async () => {
  const text = open(`train raw { sample = { prompts = "p.txt" } }
train bare { steps = 3 }
chop tiny { from = raw.mo }
save "a.png" { from = raw.an }
`);
  const [inLoras, inFiles] = [await complete(text, text.at('raw.mo|')), await complete(text, text.at('raw.an|'))];
  expect(labels(inLoras)).toEqual(['raw', 'bare', 'tiny']);
  expect(labels(inFiles)).toEqual(['raw', 'bare', 'tiny', 'raw.montage', 'raw.animation']);
});

test('a hover tells type, default, range, effect and what a change runs again', async () => {
  const text = open(program);
  expect(await hover(text, 'unet_|lr')).toMatchInlineSnapshot(`
    "\`unet_lr\`: a number, at least 0. Default: \`0.0003\`

    Learning rate of the UNet.

    Elsewhere: \`lr\`, \`learning_rate\`, \`unet_learning_rate\`, \`rate\`.

    A change of it runs again: \`raw0\`, \`raw0@40:decompose\`, \`pony:frobenius\`, \`small0\`, \`tiny0\`, \`out/foxes-0.safetensors\`."
  `);
  expect(await hover(text, 'save_|every')).toMatch(/A change of it never makes anything again\.$/);
  expect(await hover(text, 't|hr ')).toMatch(/runs again: `small0`, `tiny0`, `out\/foxes-0\.safetensors`\.$/);
  expect(await hover(text, 'fro_|ckpt')).toMatch(/A change of it makes the result again\.$/);
  expect(await hover(text, 'ep|s ')).toContain('`raw0`');
});

test('a change of the images runs what is made from them, and leaves other datasets alone', async () => {
  const text = open(program);
  const found = await hover(text, '{ ima|ges = ["images/villain"');
  expect(found).toContain('`villain:manifest`, `raw1:latents`, `raw1`');
  expect(found).not.toContain('`raw0`');
});

test('a hover knows blocks, lets, tags, words and blocks of the network', async () => {
  const text = open(program);
  expect(await hover(text, 'che|ckpoint pony')).toContain('A base model');
  expect(await hover(text, 'from     = ra|w0')).toContain('train raw0');
  expect(await hover(text, 'rate * 1'.replace('rate', 'ra|te'))).toContain('let rate = 3e-4');
  expect(await hover(text, 'SAV|EUS')).toContain('- `betas` = `[0.9, 0.999]`');
  expect(await hover(text, 'preset = fu|ll')).toContain('Which layers get an adapter');
  expect(await hover(text, 'OUT|01')).toContain('`OUT01`: OUT01');
  expect(await hover(text, '# Two char|acters')).toBeNull();
});

test('a hover over a mistake says what its kind means', async () => {
  const text = open(program.replace('base      = pony', 'base      = hero'));
  expect(await hover(text, 'base      = he|ro')).toMatch(
    /`wrong-kind`: .*`lorac explain wrong-kind` shows an example\.$/s,
  );
});

test('formatting changes the lines that are not in the one style, and nothing else', async () => {
  const text = open(
    '# kept\nlora   style { path = "style.safetensors" }\n\n\n\nchop tiny {\nfrom = style\nkeep=[OUT01]\n}\n# last\n',
  );
  const options = { tabSize: 2, insertSpaces: true };
  const edits = await ask<TextEdit[]>('textDocument/formatting', text, { options });
  expect(edits.map(({ range }) => [range.start.line, range.end.line])).toEqual([[1, 8]]);
  const formatted = apply(text, edits);
  expect(formatted).toBe(
    '# kept\nlora style { path = "style.safetensors" }\n\nchop tiny {\n  from = style\n  keep = [OUT01]\n}\n# last\n',
  );
  expect(await ask<TextEdit[]>('textDocument/formatting', open(formatted), { options })).toEqual([]);
});

test('a name leads to its definition and to everyone who uses it', async () => {
  const text = open(program);
  const position = text.at('from = small|0 ');
  const definition = await ask<Location>('textDocument/definition', text, { position });
  expect(definition.uri).toBe(text.uri);
  expect(definition.range).toEqual({ start: text.at('resize |small0'), end: text.at('resize small0|') });
  const all = await ask<Location[]>('textDocument/references', text, {
    position,
    context: { includeDeclaration: true },
  });
  expect(all.map(({ range }) => written(text, range))).toEqual(['small0', 'small0']);
  const uses = await ask<Location[]>('textDocument/references', text, {
    position,
    context: { includeDeclaration: false },
  });
  expect(uses.map(({ range }) => range.start)).toEqual([text.at('from = |small0 ')]);
  expect(await ask<unknown[]>('textDocument/documentHighlight', text, { position })).toHaveLength(2);
});

test('a rename changes every place of a name, also in texts', async () => {
  const text = open(program);
  const position = text.at('param pro|ject');
  expect(await ask('textDocument/prepareRename', text, { position })).toMatchObject({ placeholder: 'project' });
  const edit = await ask<WorkspaceEdit>('textDocument/rename', text, { position, newName: 'series' });
  const renamed = apply(text, edit.changes?.[text.uri] ?? []);
  expect(renamed).toBe(program.replaceAll('project', 'series'));
});

test.each([
  ['2nd', 'A name is made of letters'],
  ['my-name', 'A name is made of letters'],
  ['small0', 'There is something called "small0" already.'],
])('a rename to %s is refused with a reason', async (newName, reason) => {
  const text = open(program);
  const params = { position: text.at('train ra|w0'), newName };
  await expect(ask('textDocument/rename', text, params)).rejects.toThrow(reason);
});

test('an import is served from what is open, checked again with it, and renamed over all files', async () => {
  const base = 'checkpoint pony { path = "models/pony.safetensors" }\ndataset foxes { images = "images/hero" }\n';
  const main =
    'import "base.lora" as base\ntrain raw { base = base.pony  data = base.foxes }\nsave "x.safetensors" { from = raw }\n';
  // Not open, and beside them.
  const third = 'import "base.lora"\ntrain other { base = pony  data = foxes }\n';
  folder.write({ 'base.lora': 'what is saved is another text', 'third.lora': third });
  const imported = editor.open('base.lora', base);
  const text = editor.open('importing.lora', main);
  expect(await text.diagnostics()).toEqual([]);
  expect(labels(await complete(text, text.at('data = |base.foxes')))).toEqual(['base.foxes']);
  const definition = await ask<Location>('textDocument/definition', text, { position: text.at('base.po|ny') });
  expect(definition).toMatchObject({ uri: imported.uri, range: { start: imported.at('|pony') } });
  const file = await ask<Location>('textDocument/definition', text, { position: text.at('"base|.lora"') });
  expect(file.uri).toBe(imported.uri);

  const edit = await ask<WorkspaceEdit>('textDocument/rename', imported, {
    position: imported.at('|foxes'),
    newName: 'cats',
  });
  const changed = Object.entries(edit.changes ?? {}).map(([uri, edits]) => [uri.replace(/^.*\//, ''), edits.length]);
  expect(changed.toSorted()).toEqual([
    ['base.lora', 1],
    ['importing.lora', 1],
    ['third.lora', 1],
  ]);
  expect(apply(text, edit.changes?.[text.uri] ?? [])).toBe(main.replace('base.foxes', 'base.cats'));

  imported.replace('dataset foxes', 'dataset foxes extends nobody');
  await expect
    .poll(() => text.diagnostics())
    .toMatchObject([
      {
        code: 'import-failed',
        message: '"base.lora" has 1 mistake.',
        relatedInformation: [{ location: { uri: imported.uri } }],
      },
    ]);
  expect(await imported.diagnostics()).toMatchObject([{ code: 'unknown-name' }]);
  imported.replace(' extends nobody', '');
  await expect.poll(() => text.diagnostics()).toEqual([]);
});

test('the outline has blocks with their settings', async () => {
  const text = open(program);
  const symbols = await ask<DocumentSymbol[]>('textDocument/documentSymbol', text);
  expect(symbols.slice(0, 5).map(({ name, detail }) => [name, detail])).toEqual([
    ['project', 'param = "foxes"'],
    ['rate', 'let = 3e-4'],
    ['small_net', 'let = locon { dim = 4 alpha = 2 }'],
    ['pony', 'checkpoint'],
    ['hero', 'dataset'],
  ]);
  const hero = symbols[4];
  expect(hero?.children?.map(({ name }) => name)).toEqual(['images', 'repeats', 'resolution', 'bucket']);
  // VS Code refuses symbols whose name lies outside of them.
  for (const { range, selectionRange } of symbols) {
    expect(written(text, range)).toContain(written(text, selectionRange));
  }
});

test('blocks, records and comments can be folded', async () => {
  const text = open(program);
  const folds = await ask<{ startLine: number; endLine: number; kind?: string }[]>('textDocument/foldingRange', text);
  const lines = text.text.split('\n');
  expect(folds.slice(0, 3).map(({ startLine }) => lines[startLine])).toEqual([
    'dataset hero {',
    'train raw0 {',
    '  optimizer = SAVEUS {',
  ]);
  expect(
    folds.every(
      ({ startLine, endLine, kind }) => kind === 'comment' || lines[endLine + 1]?.trim() === '}' || startLine < endLine,
    ),
  ).toBe(true);
  expect(folds.filter(({ kind }) => kind === 'comment')).toEqual([{ startLine: 0, endLine: 1, kind: 'comment' }]);
});

/** Each token of the answer with its text and its type. */
function decoded(text: OpenText, data: readonly number[]): [string, string][] {
  const types = editor.about.capabilities.semanticTokensProvider?.legend.tokenTypes ?? [];
  const lines = text.text.split('\n');
  let [line, character] = [0, 0];
  const tokens: [string, string][] = [];
  for (let at = 0; at < data.length; at += 5) {
    const [lines_ = 0, characters = 0, length = 0, type = 0] = data.slice(at, at + 4);
    line += lines_;
    character = lines_ === 0 ? character + characters : characters;
    tokens.push([lines[line]?.slice(character, character + length) ?? '', types[type] ?? '']);
  }
  return tokens;
}

test('colours know what words mean', async () => {
  const text = open(program);
  const { data } = await ask<{ data: number[] }>('textDocument/semanticTokens/full', text);
  const tokens = decoded(text, data);
  expect(tokens.slice(0, 6)).toEqual([
    ['# Two characters, many tries.', 'comment'],
    ['# Everything is trained on the same checkpoint.', 'comment'],
    ['param', 'keyword'],
    ['project', 'variable'],
    ['"foxes"', 'string'],
    ['let', 'keyword'],
  ]);
  const at = tokens.findIndex(([word]) => word === '"out/${');
  expect(tokens.slice(at, at + 3)).toEqual([
    ['"out/${', 'string'],
    ['project', 'variable'],
    ['}-0.safetensors"', 'string'],
  ]);
  expect(tokens).toContainEqual(['SAVEUS', 'type']);
  expect(tokens).toContainEqual(['OUT01', 'enumMember']);
  expect(tokens).toContainEqual(['unet_lr', 'property']);
});

test('the colours of a part are those of the whole there', async () => {
  const text = open(program);
  const range = { start: { line: 18, character: 0 }, end: { line: 40, character: 0 } };
  const part = await ask<{ data: number[] }>('textDocument/semanticTokens/range', text, { range });
  const whole = await ask<{ data: number[] }>('textDocument/semanticTokens/full', text);
  const tokens = decoded(text, part.data);
  expect(tokens.length).toBeGreaterThan(40);
  expect(JSON.stringify(decoded(text, whole.data))).toContain(JSON.stringify(tokens).slice(1, -1));
});

test('a fix is offered for each problem that has one, and for all at once', async () => {
  const wrong = program
    .replace('unet_lr  ', 'learning_rate  ')
    .replace('mixed', 'mixed')
    .replace('= cosine', '= cosin');
  const text = open(wrong);
  const diagnostics = await text.diagnostics();
  expect(diagnostics.map(({ code }) => code)).toEqual(['unknown-attribute', 'unknown-word']);
  const [first] = diagnostics;
  const context = { diagnostics: [first], triggerKind: 2 };
  const actions = await ask<CodeAction[]>('textDocument/codeAction', text, { range: first?.range, context });
  expect(actions.map(({ title, kind }) => [title, kind])).toEqual([
    ['Write unet_lr', 'quickfix'],
    ['Fix all 2 that lorac can fix', 'source.fixAll.lorac'],
  ]);
  const [change] = actions[1]?.edit?.documentChanges ?? [];
  if (change === undefined || !('edits' in change)) throw new Error('no edits');
  expect(change.textDocument).toEqual({ uri: text.uri, version: text.version });
  expect(apply(text, change.edits as TextEdit[]).replace('unet_lr       ', 'unet_lr  ')).toBe(
    program.replace('unet_lr       ', 'unet_lr  '),
  );
  const onSave = { range: first?.range, context: { diagnostics: [], only: ['source.fixAll'] } };
  expect((await ask<CodeAction[]>('textDocument/codeAction', text, onSave)).map(({ kind }) => kind)).toEqual([
    'source.fixAll.lorac',
  ]);
});

const surgery = `lora style { path = "style.safetensors" }
dataset hero { images = "images/hero"  repeats = 3 }
chop tiny { from = style  keep = [OUT01] }
chop some { from = style  keep = sweep { one = [IN]  two = [MID] } }
save "tiny.safetensors" { from = tiny }
checkpoint pony { path = "models/pony.safetensors" }
train raw { base = pony  data = hero }
`;

const everything = { start: { line: 0, character: 0 }, end: { line: 1000, character: 0 } };

const lenses = async (text: OpenText) => {
  const found = await ask<CodeLens[]>('textDocument/codeLens', text);
  return found.map(({ range, command }) => `${written(text, range)}: ${command?.title}`);
};

const hints = async (text: OpenText) => {
  const found = await ask<InlayHint[]>('textDocument/inlayHint', text, { range: everything });
  return found.map(
    ({ position, label }) => `${text.text.split('\n')[position.line]?.slice(0, position.character)}: ${label}`,
  );
};

test('lenses and hints tell how blocks stand, before and after a build, and are asked for again when one ends', async () => {
  const text = editor.open('surgery.lora', surgery);
  folder.write({ 'surgery.lora': surgery });
  // Not all of it is saved, which is warned of.
  expect(new Set((await text.diagnostics()).map(({ code }) => code))).toEqual(new Set(['unused-block']));
  expect((await lenses(text)).slice(0, 3)).toEqual([
    'lora style: unknown: a file has changed since it was last read',
    'lora style: build',
    'lora style: why',
  ]);
  expect(await hints(text)).toEqual(['train raw: 48 images per step']);

  const targets = ['hero', 'tiny', 'some', 'tiny.safetensors'];
  const env = { LORAC_STORE: '', LORAC_PYTHON: '/nonexistent/python' };
  await execa(process.execPath, [lorac, 'build', 'surgery.lora', ...targets], { cwd: folder.path, env });

  await expect.poll(() => editor.asked, { timeout: 10_000 }).toContain('workspace/codeLens/refresh');
  expect(editor.asked).toContain('workspace/inlayHint/refresh');
  const titles = (await lenses(text)).filter((title) => !/: (?:build|why)$/.test(title));
  expect(titles.map((title) => title.replace(/, .* saved/, ''))).toEqual([
    'lora style: fresh',
    'dataset hero: fresh',
    'chop tiny: fresh',
    'chop some: 2 variants, all fresh',
    'save "tiny.safetensors": fresh',
    'checkpoint pony: unknown: a file has changed since it was last read',
    'train raw: would run: not built yet',
  ]);
  expect(await hints(text)).toMatchObject([
    expect.stringMatching(/^lora style: [\d.]+ k?B at the last build$/),
    'dataset hero: 2 images, 6 per epoch',
    expect.stringMatching(/^chop tiny: [\d.]+ k?B at the last build$/),
    expect.stringMatching(/^save "tiny.safetensors": [\d.]+ k?B at the last build$/),
    'train raw: 48 images per step, 0.1 steps per epoch',
  ]);
  const why = await editor.connection.sendRequest('workspace/executeCommand', {
    command: 'lorac.why',
    arguments: [text.uri, 'raw'],
  });
  expect(why).toEqual(['raw:latents: would run: not built yet', 'raw: would run: not built yet']);

  text.replace('keep = [OUT01]', 'keep = [OUT02]');
  expect(await lenses(text)).toContainEqual(expect.stringMatching(/^chop tiny: would run: \w+/));
});
