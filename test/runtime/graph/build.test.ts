// Which nodes a program becomes, and what each of them is made from.

import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { expect, test } from 'vitest';
import { compile } from '../../../src/parser/check.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import type { Graph } from '../../../src/runtime/graph/graph.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { stages } from '../../../src/runtime/stages/index.ts';

const places = { home: absolutePath('/home/me') };

function graphOf(text: string): Graph {
  const { program, diagnostics } = compile({ path: '/project/main.lora', text }, { params: new Map() });
  if (program === undefined) throw new Error(diagnostics.map(({ message }) => message).join('\n'));
  return buildGraph(program, { ...places, stages });
}

/** Each node with what it reads: "small: resize ← raw.lora, raw:decompose.factors". */
function edges(graph: Graph): readonly string[] {
  return graph.nodes.map(({ id, stage, inputs, files }) => {
    const read = [...Object.values(inputs).map(({ node, output }) => `${node}.${output}`), ...Object.values(files)];
    return `${id}: ${stage.name}${read.length > 0 ? ` ← ${read.join(', ')}` : ''}`;
  });
}

const node = (graph: Graph, id: string) => {
  const found = graph.nodes.find((each) => each.id === id);
  if (found === undefined) throw new Error(`There is no "${id}".`);
  return found;
};

const short = `
checkpoint pony { path = "models/pony.safetensors" }
dataset    hero { images = "training_dir" }
train  raw   { base = pony  data = hero }
resize small { from = raw }
chop   tiny  { from = small  keep = [OUT01] }
save "hero.safetensors" { from = tiny }
`;

test('the short program', () => {
  expect(edges(graphOf(short))).toEqual([
    'pony: checkpoint ← /project/models/pony.safetensors',
    'hero:manifest: manifest',
    'raw:latents: latents ← hero:manifest.images, pony.vae',
    'raw: train ← raw:latents.latents, hero:manifest.images, hero:manifest.captions, /project/models/pony.safetensors',
    'raw:decompose: decompose ← raw.lora',
    'pony:frobenius: frobenius ← raw:decompose.modules, /project/models/pony.safetensors',
    'small: resize ← raw.lora, raw:decompose.factors, pony:frobenius.numbers',
    'tiny: chop ← small.lora',
    'hero.safetensors: save ← tiny.lora',
  ]);
});

const spelledOut = `
# ten-minute.lora
param name = "hero"
checkpoint pony { path = "/project/models/pony.safetensors" }
dataset character {
  images = "/project/training_dir/**/*.{png,jpg,jpeg,webp}"
  caption_extension = ".txt"  shuffle_caption = true  flip_aug = true  repeats = 1  resolution = 1024x1024
  bucket = { min = 256  max = 2048  step = 32 }
}
train raw {
  base = pony
  data = character
  network = locon { preset = full  dim = 8  alpha = 4  conv_dim = 256  conv_alpha = 4 }
  optimizer = SAVEUS {
    betas = [0.9, 0.999]   eps = 1e-8             weight_decay = 0
    centralization = 0.5   normalization = 0.5    normalize_channels = true
    amp_fac = 2.0          clip_gradients = false clip_lambda = step ** 0.25
  }
  unet_lr = 3e-4  text_encoder_lr = 1e-4
  lr_scheduler = cosine { num_cycles = 0.375 }
  max_grad_norm = 1  steps = 80  batch_size = 8  gradient_accumulation_steps = 6
  noise = multires { iterations = 12  discount = 0.4 }
  mixed_precision = bf16  save_precision = fp16
  save_every = 1
  sample = { every = 10  prompts = "/training_dir/sample-prompts.txt"  sampler = euler_a }
}
resize small { from = raw     fro_ckpt = 1   thr = -3.55 }
chop   tiny  { from = small   keep = [OUT01] }
save "\${name}.safetensors" { from = tiny }
`;

test('the same program with its defaults written down differs in nothing that counts', () => {
  const [one, other] = [graphOf(short), graphOf(spelledOut)];
  for (const id of ['raw:latents', 'raw', 'small', 'tiny', 'hero.safetensors']) {
    expect(node(other, id).attributes, id).toEqual(node(one, id).attributes);
  }
  expect(node(other, 'character:manifest').attributes).toEqual(node(one, 'hero:manifest').attributes);
  expect(node(other, 'raw').settings).toMatchObject({ save_every: 1, sample: { every: 10 } });
});

test('a training has one form, however its blocks are named, and no trace of settings that came later', () => {
  const training = (written: string) => node(graphOf(short.replace('data = hero', `data = hero  ${written}`)), 'raw');
  const usual = training('').attributes;
  for (const later of ['crop_conditioning', 'latents', 'masked_loss', 'fp8_base'])
    expect(usual).not.toHaveProperty(later);
  const written = 'crop_conditioning = real  latents = fresh  fp8_base = off  masked_loss = { normalize = false }';
  expect(training(written).attributes).toEqual(usual);
  expect(training('train_unet = false').attributes).toEqual(training('unet_lr = 0').attributes);
  const [one, other] = ['{ MID = 4 }', '{ MID02 = 4  M0 = 4  MID1 = 4 }'].map((dims) =>
    training(`network = locon { dims = ${dims} }`),
  );
  expect(one?.attributes).toEqual(other?.attributes);
  expect(training('masked_loss = { normalize = true }').attributes).toEqual({
    ...usual,
    masked_loss: { unmasked_weight: 0, normalize: true },
  });
});

test('what becomes of captions at visits is the training alone: no image is encoded again for it', () => {
  const changed = graphOf(
    short.replace(
      '"training_dir"',
      '"training_dir" keep_tokens = 1 caption_dropout_rate = 0.1 caption_prefix = "photo,"',
    ),
  );
  const usual = graphOf(short);
  for (const id of ['hero:manifest', 'raw:latents']) {
    expect(node(changed, id).attributes).toEqual(node(usual, id).attributes);
    expect(node(changed, id).settings).toEqual(node(usual, id).settings);
  }
  // Lines of caption files are read by the manifest, whose captions then tell the training by themselves.
  const wild = graphOf(short.replace('"training_dir"', '"training_dir" wildcards = true'));
  const { attributes } = node(usual, 'hero:manifest');
  expect(node(wild, 'hero:manifest')).toMatchObject({ attributes, settings: { wildcards: true } });
  const usually = node(usual, 'raw').attributes.captions as object;
  expect(node(changed, 'raw').attributes.captions).toEqual({
    ...usually,
    keep_tokens: 1,
    caption_dropout_rate: 0.1,
    caption_prefix: 'photo,',
  });
});

test('pictures are made of the steps that training keeps for them, where it has them', () => {
  const graph = graphOf(spelledOut);
  const { inputs, files } = node(graph, 'raw:samples');
  expect(Object.keys(inputs)).toEqual(['lora', ...[10, 20, 30, 40, 50, 60, 70].map((step) => `step.${step}`)]);
  expect(inputs['step.40']).toEqual({ node: 'raw', output: 'step.40', optional: true });
  expect(files).toEqual({
    checkpoint: '/project/models/pony.safetensors',
    prompts: '/training_dir/sample-prompts.txt',
  });
});

test('pictures of a training on weights in 8 bits are looked up as what they are', () => {
  const samples = (written: string) => {
    const graph = graphOf(spelledOut.replace('save_every = 1', `save_every = 1  ${written}`));
    return [node(graph, 'raw').attributes, node(graph, 'raw:samples').attributes].map(({ fp8_base }) => fp8_base);
  };
  expect(samples('')).toEqual([undefined, undefined]);
  expect(samples('fp8_base = unet')).toEqual(['unet', 'unet']);
});

test('neither paths nor how often something is saved are among the attributes', () => {
  const graph = graphOf(spelledOut);
  for (const { attributes } of graph.nodes) {
    const text = JSON.stringify(attributes);
    expect(text).not.toMatch(
      /\/project|training_dir|save_every|state_every|gradient_checkpointing|blocks_to_swap|compile|overwrite/,
    );
  }
});

test('numbers of the checkpoint are computed only when a recipe names them, and shared', () => {
  const graph = graphOf(`${short}
    resize other { from = raw  spn_ckpt = 0.5  subspace = 0.5 }
    resize plain { from = raw  spn_lora = 1 }
    resize again { from = tiny  fro_ckpt = 1 }
  `);
  expect(edges(graph).slice(9)).toEqual([
    'raw:spectral: spectral ← raw:decompose.modules, /project/models/pony.safetensors',
    'raw:projections: projections ← raw:decompose.modules, raw:decompose.factors, /project/models/pony.safetensors',
    'other: resize ← raw.lora, raw:decompose.factors, raw:spectral.numbers, raw:projections.numbers',
    'plain: resize ← raw.lora, raw:decompose.factors',
    'tiny:decompose: decompose ← tiny.lora',
    'pony:frobenius[tiny]: frobenius ← tiny:decompose.modules, /project/models/pony.safetensors',
    'again: resize ← tiny.lora, tiny:decompose.factors, pony:frobenius[tiny].numbers',
  ]);
});

test('blocks may be written in any order', () => {
  const lines = short.trim().split('\n');
  const backwards = graphOf(lines.toReversed().join('\n'));
  expect(new Set(edges(backwards))).toEqual(new Set(edges(graphOf(short))));
  const seen = new Set<string>();
  for (const { id, inputs } of backwards.nodes) {
    for (const input of Object.values(inputs)) expect(seen).toContain(input.node);
    seen.add(id);
  }
});

test('a LoRA that a training begins with is an input, and no part of its attributes', () => {
  const begun = `${short.replace('train  raw   {', 'lora old { path = "old.safetensors" }\ntrain  raw   { init = old')}`;
  const other = graphOf(begun);
  expect(node(other, 'raw').inputs.init).toEqual({ node: 'old', output: 'lora' });
  expect(node(other, 'raw').attributes).toEqual(node(graphOf(short), 'raw').attributes);
  const chained = graphOf(`${short}\ntrain more { base = pony  data = hero  init = raw@40 }`);
  expect(node(chained, 'more').inputs.init).toEqual({ node: 'raw', output: 'step.40' });
  expect(node(chained, 'raw').settings.save_steps).toEqual([40]);
});

test('two ways to say the same training or dataset have one fingerprint, and the worker hears of blocks alone', () => {
  const attributesOf = (written: string, id = 'raw', dataset = '') => {
    const text = `checkpoint pony { path = "p.safetensors" } dataset hero { images = "x" ${dataset} }`;
    return node(graphOf(`${text} train raw { base = pony  data = hero ${written} }`), id).attributes;
  };
  const grouped = attributesOf('network = locon { dims = { MID = 32  MID1 = 8 } }  block_lr = { M00 = 2 }');
  expect(grouped).toMatchObject({ network: { dims: { MID00: 32, MID01: 8, MID02: 32 } }, block_lr: { MID00: 2 } });
  const spelt = 'network = locon { dims = { MID00 = 32  MID01 = 8  MID02 = 32 } }  block_lr = { MID00 = 2 }';
  expect(attributesOf(spelt)).toEqual(grouped);
  expect(attributesOf('train_unet = false')).toEqual(attributesOf('unet_lr = 0'));
  const manifest = attributesOf('', 'hero:manifest');
  expect(attributesOf('', 'hero:manifest', 'bucket = { upscale = true  distance = ratio }')).toEqual(manifest);
  expect(attributesOf('', 'hero:manifest', 'bucket = { upscale = false }')).not.toEqual(manifest);
  expect(attributesOf('', 'hero:manifest', 'bucket = { distance = log_ratio }')).not.toEqual(manifest);
});

/** A setting that came later is left out of attributes where a program does not use it. Else all of these train again. */
test('programs that use nothing new keep the fingerprints that they had', () => {
  const keys = (written: string) => {
    const text = `checkpoint pony { path = "p.safetensors" } dataset hero { images = "x" }`;
    const graph = graphOf(`${text} train raw { base = pony  data = hero ${written} }`);
    return ['raw', 'hero:manifest'].map((id) =>
      createHash('sha256')
        .update(canonicalize(node(graph, id).attributes) ?? '')
        .digest('hex')
        .slice(0, 16),
    );
  };
  expect(keys('')).toEqual(['8c0ea7e2869bbab6', '0811b2ee9a272271']);
  expect(keys('network = lokr { dim = 4 }  unet_lr = 0')[0]).toBe('9a93bf560acfe375');
  expect(keys('block_lr = { OUT01 = 0.5 }  noise = plain')[0]).toBe('d2b34498658b0858');
});

test('two ways to say the same resize or chop have one fingerprint', () => {
  const attributesOf = (block: string) => node(graphOf(`${short}\n${block}`), 'x').attributes;
  const resize = attributesOf('resize x { from = raw }');
  expect(attributesOf('resize x { from = raw  fro_ckpt = 3  thr = -3.55  rescale = 1.0 }')).toEqual(resize);
  const chop = attributesOf('chop x { from = raw  keep = [OUT01, MID] }');
  expect(attributesOf('chop x { from = raw  keep = [MID02, MID00, OUT1, MID01] }')).toEqual(chop);
  expect(attributesOf('chop x { from = raw  weights = { OUT01 = 1  MID = 1 } }')).toEqual(chop);
});

test('a save goes where it says, under the name that it says', () => {
  const graph = graphOf(short.replace('"hero.safetensors"', '"~/loras/my hero.safetensors"'));
  const { attributes, placement } = node(graph, '~/loras/my hero.safetensors');
  expect(attributes).toEqual({ title: 'my hero', format: 'kohya' });
  expect(placement).toEqual({ output: 'lora', target: '/home/me/loras/my hero.safetensors', overwrite: false });
});

test('the images of a dataset start where they were written', () => {
  const graph = graphOf(short.replace('"training_dir"', '["cats/*.png", "~/dogs", "/birds"]'));
  expect(node(graph, 'hero:manifest').settings).toMatchObject({
    images: [
      { from: '/project', pattern: 'cats/*.png' },
      { from: '/home/me', pattern: 'dogs' },
      { from: '/project', pattern: '/birds' },
    ],
  });
});

test('regularization images are another dataset, encoded by a node of their own', () => {
  const program = short
    .replace('data = hero', 'data = hero  regularization = keep  prior_loss_weight = 0.5')
    .concat('dataset keep { images = "keep"  shuffle_caption = false  flip_aug = false }');
  const graph = graphOf(program);
  expect(node(graph, 'raw:regularization')).toMatchObject({ attributes: { flip: false, exif: 'upright' } });
  expect(edges(graph)).toContain('raw:regularization: latents ← keep:manifest.images, pony.vae');
  expect(Object.keys(node(graph, 'raw').inputs)).toEqual([
    'latents',
    'images',
    'captions',
    'regularization.latents',
    'regularization.images',
    'regularization.captions',
  ]);
  expect(node(graph, 'raw').attributes.regularization).toMatchObject({
    captions: { shuffle_caption: false },
    prior_loss_weight: 0.5,
  });
  expect(node(graphOf(short), 'raw').attributes.regularization).toBeNull();
});

test('how pictures are read shows in their latents alone, and only where it is not as usual', () => {
  const usual = node(graphOf(short), 'raw:latents');
  expect(usual.attributes).toEqual({ vae_precision: 'fp32', flip: true, exif: 'upright' });
  const written = graphOf(
    short.replace('"training_dir"', '"training_dir"  exif = ignore  transparency = "#000"  resize_filter = area'),
  );
  expect(node(written, 'raw:latents').attributes).toEqual({
    ...usual.attributes,
    exif: 'ignored',
    transparency: [0, 0, 0],
    resize_filter: 'area',
  });
  for (const id of ['hero:manifest', 'raw']) {
    expect(node(written, id).attributes).toEqual(node(graphOf(short), id).attributes);
  }
});

test('two trainings can read one dataset in two ways', () => {
  const graph = graphOf(`${short}  train theirs { base = pony  data = hero  parity = sd_scripts }`);
  expect(edges(graph)).toContain('raw:latents: latents ← hero:manifest.images, pony.vae');
  expect(edges(graph)).toContain('theirs:latents: latents ← hero:manifest.images.as-stored, pony.vae');
  expect(node(graph, 'theirs').inputs.images).toEqual({ node: 'hero:manifest', output: 'images.as-stored' });
  expect(node(graph, 'theirs:latents').attributes).toMatchObject({ exif: 'ignored', transparency: 'ignore' });
});

test('masks have the shape of their images as a training reads them, upright or with parity as stored', () => {
  const shapesOf = (dataset: string, training: string) => {
    const graph = graphOf(`
      checkpoint pony { path = "models/pony.safetensors" }
      dataset hero { images = "training_dir"  masks = "masks"  ${dataset} }
      train raw { base = pony  data = hero  ${training} }`);
    return node(graph, 'hero:manifest').settings.masks;
  };
  expect(shapesOf('', '')).toMatchObject({ asStored: false });
  expect(shapesOf('exif = ignore', '')).toMatchObject({ asStored: true });
  expect(shapesOf('', 'parity = sd_scripts')).toMatchObject({ asStored: true });
  expect(shapesOf('exif = apply', 'parity = sd_scripts')).toMatchObject({ asStored: false });
});

test('what a program says of a checkpoint counts wherever the checkpoint computes, and nowhere else', () => {
  const program = (checkpoint: string) =>
    graphOf(`
    checkpoint pony { path = "models/pony.safetensors" ${checkpoint} }
    dataset hero { images = "training_dir" }
    train raw { base = pony  data = hero  sample = { prompts = "p.txt" } }
    preview seen { loras = [raw]  prompts = "p.txt" }
    analyze known { from = raw  prompts = "p.txt" }
    `);
  const process = { prediction: 'v', zero_terminal_snr: 'auto' };
  const [usual, said] = [program(''), program('prediction = v')];
  for (const { id, attributes } of usual.nodes) {
    const computes = ['raw', 'raw:samples', 'seen', 'known:ablation'].includes(id);
    expect(node(said, id).attributes, id).toEqual(computes ? { ...attributes, process } : attributes);
  }
});
