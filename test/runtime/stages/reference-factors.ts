// What the worker's stages would say about a LoRA and its base weights, by the slow and obvious way.

import { writeFile } from 'node:fs/promises';
import { fromNumbers } from '../../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { groupModules, type LoraModule } from '../../../src/runtime/sdxl/lora.ts';
import {
  at,
  type Decomposition,
  decompose,
  decomposeProduct,
  dot,
  frobenius,
  type Matrix,
  multiply,
  rowsOf,
} from '../../helpers/linear-algebra.ts';
import { flat, foldedDown } from './lab.ts';

/** What the worker would rebuild of modules that are no LoRA: ΔW as out × in·k², by module, and the largest rank. */
export interface Extraction {
  readonly rank: number;
  readonly deltas: ReadonlyMap<string, Matrix>;
  /** Of the kernel; 1 where there is none. */
  readonly kernel: number;
}

/** Writes the decomposition of a LoRA as the worker does, and gives it by module. */
export async function writeFactors(
  lora: string,
  output: string,
  extraction?: Extraction,
  /** Said of every module, whatever is true. */
  claims: Readonly<Record<string, unknown>> = {},
): Promise<ReadonlyMap<string, Decomposition>> {
  await using file = await SafetensorsFile.open(lora);
  const found = new Map<string, Decomposition>();
  const described: Record<string, unknown> = {};
  const skipped: Record<string, string> = {};
  const tensors: TensorToWrite[] = [];
  for (const module of groupModules(file.header.tensors.keys()).modules) {
    const made = (await factorsOf(file, module)) ?? extracted(module, extraction);
    if (made === undefined) {
      skipped[module.name] = `${module.family} is none of this test's`;
      continue;
    }
    const { ut, sigma, vt } = made.decomposition;
    found.set(module.name, made.decomposition);
    described[module.name] = { ...made.facts, ...claims };
    tensors.push(
      single(`${module.name}.u`, [ut.rows, ut.columns], ut.data),
      single(`${module.name}.s`, [sigma.length], Float64Array.from(sigma)),
      single(`${module.name}.vt`, [vt.rows, vt.columns], vt.data),
    );
  }
  const metadata = new Map([
    ['lorac.modules', JSON.stringify(described)],
    ['lorac.skipped', JSON.stringify(skipped)],
  ]);
  await writeSafetensors({ path: output, tensors, metadata, hashes: false });
  return found;
}

interface Factors {
  readonly decomposition: Decomposition;
  readonly facts: Readonly<Record<string, unknown>>;
}

async function factorsOf(file: SafetensorsFile, module: LoraModule): Promise<Factors | undefined> {
  const [upName, downName] = [module.tensors.get('up'), module.tensors.get('down')];
  const [up, down] = [await flat(file, upName), await foldedDown(file, module)];
  if (upName === undefined || downName === undefined || up === undefined || down === undefined) return undefined;
  const stored = await flat(file, module.tensors.get('alpha'));
  const alpha = stored === undefined ? down.rows : at(stored, 0, 0);
  const scale = Math.abs(alpha) / down.rows;
  const { ut, sigma, vt } = decomposeProduct(up, down);
  const u = alpha < 0 ? { ...ut, data: ut.data.map((value) => -value) } : ut;
  const kernel = file.tensor(module.tensors.get('mid') ?? downName).shape.slice(2);
  const [rank = 0, width = 0] = file.tensor(downName).shape;
  return {
    decomposition: { ut: u, sigma: sigma.map((value) => value * scale), vt },
    facts: {
      family: module.family,
      alpha,
      rank: down.rows,
      scale,
      up_shape: file.tensor(upName).shape,
      down_shape: [rank, width, ...kernel],
    },
  };
}

function extracted(module: LoraModule, extraction: Extraction | undefined): Factors | undefined {
  const delta = extraction?.deltas.get(module.name);
  if (extraction === undefined || delta === undefined) return undefined;
  const { ut, sigma, vt } = decompose(delta);
  const rank = Math.min(extraction.rank, delta.rows, delta.columns);
  const isConvolution = extraction.kernel > 1;
  const kernel = isConvolution ? [extraction.kernel, extraction.kernel] : [];
  const first = ({ columns, data }: Matrix): Matrix => ({ rows: rank, columns, data: data.slice(0, rank * columns) });
  return {
    decomposition: { ut: first(ut), sigma: sigma.slice(0, rank), vt: first(vt) },
    facts: {
      family: module.family,
      alpha: rank,
      rank,
      scale: 1,
      up_shape: [delta.rows, rank, ...(isConvolution ? [1, 1] : [])],
      down_shape: [rank, delta.columns / extraction.kernel ** 2, ...kernel],
      discarded: sigma.slice(rank).reduce((sum, value) => sum + value * value, 0),
    },
  };
}

function single(name: string, shape: readonly number[], numbers: Float64Array): TensorToWrite {
  return { name, dtype: 'F32', shape, source: { kind: 'bytes', bytes: fromNumbers(numbers, 'F32') } };
}

export interface ReferenceFiles {
  readonly frobenius: string;
  readonly spectral: string;
  readonly projections: string;
}

/** Writes the three kinds of numbers of base weights, beside each other. */
export async function writeReferences(options: {
  readonly base: string;
  readonly factors: ReadonlyMap<string, Decomposition>;
  readonly path: (name: string) => string;
}): Promise<ReferenceFiles> {
  await using file = await SafetensorsFile.open(options.base);
  const numbers = { frobenius: {}, spectral: {}, projections: {} } as Record<
    keyof ReferenceFiles,
    Record<string, unknown>
  >;
  for (const [module, { ut, vt }] of options.factors) {
    const weight = await baseWeight(file, module);
    numbers.frobenius[module] = frobenius(weight);
    numbers.spectral[module] = decompose(weight).sigma[0];
    const rows = rowsOf(vt);
    numbers.projections[module] = rowsOf(multiply(ut, weight)).map((row, i) => Math.abs(dot(row, rows[i] ?? row)));
  }
  const files = {
    frobenius: options.path('f.json'),
    spectral: options.path('s.json'),
    projections: options.path('p.json'),
  };
  for (const [kind, path] of Object.entries(files))
    await writeFile(path, JSON.stringify(numbers[kind as keyof ReferenceFiles]));
  return files;
}

/** A checkpoint tensor by the name of its LoRA module. Query, key and value of text encoder 2 are thirds of one. */
async function baseWeight(file: SafetensorsFile, module: string): Promise<Matrix> {
  const third = /^lora_te2_text_model_encoder_layers_(\d+)_self_attn_([qkv])_proj$/.exec(module);
  if (third) {
    const fused = await flat(
      file,
      `conditioner.embedders.1.model.transformer.resblocks.${third[1]}.attn.in_proj_weight`,
    );
    if (fused === undefined) throw new Error('no such weight');
    const rows = fused.rows / 3;
    const first = 'qkv'.indexOf(third[2] ?? '') * rows;
    return {
      rows,
      columns: fused.columns,
      data: fused.data.slice(first * fused.columns, (first + rows) * fused.columns),
    };
  }
  const wanted = module
    .replace(/^lora_unet_/, 'model_diffusion_model_')
    .replace(/^lora_te1_/, 'conditioner_embedders_0_transformer_')
    .replace(/^lora_te2_text_model_encoder_layers_/, 'conditioner_embedders_1_model_transformer_resblocks_')
    .replace('self_attn_out_proj', module.startsWith('lora_te2') ? 'attn_out_proj' : 'self_attn_out_proj')
    .replace('mlp_fc1', module.startsWith('lora_te2') ? 'mlp_c_fc' : 'mlp_fc1')
    .replace('mlp_fc2', module.startsWith('lora_te2') ? 'mlp_c_proj' : 'mlp_fc2');
  const name = [...file.header.tensors.keys()].find((key) => key.replaceAll('.', '_') === `${wanted}_weight`);
  const weight = await flat(file, name);
  if (weight === undefined) throw new Error(`no base weight for ${module}`);
  return weight;
}
