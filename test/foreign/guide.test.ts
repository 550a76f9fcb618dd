// The guide's three commands, imported: the program is DESIGN's ten-minute program in other words.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { importText } from '../../src/foreign/import.ts';
import { nowhere } from '../../src/foreign/recipe.ts';
import { compile } from '../../src/parser/check.ts';
import { buildGraph } from '../../src/runtime/graph/build.ts';
import { absolutePath } from '../../src/runtime/graph/paths.ts';
import { stages } from '../../src/runtime/stages/index.ts';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const guide = read('test/fixtures/foreign/guide.sh');

function imported(text: string) {
  const result = importText(text, nowhere);
  if ('problem' in result) throw new Error(result.problem);
  return result;
}

function graphOf(text: string) {
  const { program, diagnostics } = compile({ path: '/project/main.lora', text }, { params: new Map() });
  expect(diagnostics).toEqual([]);
  if (program === undefined) throw new Error('It does not check.');
  return buildGraph(program, { home: absolutePath('/home/me'), stages });
}

test('the program that the guide becomes', () => {
  expect(imported(guide).program).toMatchSnapshot();
  expect(imported(guide).draft.lost).toEqual([]);
});

test('the guide and the ten-minute program compute the same: what counts is equal, node by node', () => {
  const ours = graphOf(read('examples/ten-minute/ten-minute.lora'));
  const theirs = graphOf(imported(guide).program);
  // Blocks have other names, and the last one is the path of the file.
  const names: { readonly [theirs: string]: string } = {
    model: 'ponyDiffusion',
    pictures: 'character',
  };
  const called = (id: string) => id.replace(/^\w+/, (word) => names[word] ?? word).replace(/^ponyDiffusion/, 'pony');
  const counted = (graph: typeof ours, rename: (id: string) => string) =>
    graph.nodes
      .filter(({ stage }) => stage.name !== 'save')
      .map(({ id, stage, attributes, inputs, files }) => ({
        id: rename(id),
        stage: stage.name,
        attributes,
        inputs: Object.entries(inputs).map(([role, { node, output }]) => `${role}: ${rename(node)}.${output}`),
        files,
      }));
  expect(counted(theirs, called)).toEqual(counted(ours, (id) => id));
  expect(theirs.nodes.at(-1)).toMatchObject({ attributes: { title: 'yifftoolkit-schnell', format: 'kohya' } });
});

test('what a training keeps and shows is what the guide says', () => {
  const train = graphOf(imported(guide).program).nodes.find(({ id }) => id === 'raw');
  expect(train?.settings).toMatchObject({
    save_every: 1,
    sample: { every: 10, prompts: '/training_dir/sample-prompts.txt', sampler: 'euler_a' },
  });
});

test('images count in folders such as 5_fox, and lend their words where captions are missing, as in sd-scripts', () => {
  const manifest = graphOf(imported(guide).program).nodes.find(({ id }) => id === 'pictures:manifest');
  expect(manifest?.settings).toMatchObject({
    images: [{ from: '/project', pattern: '/training_dir' }],
    folders: 'kohya',
    caption_missing: 'folder',
  });
});
