// A stage alone in a folder: inputs in, outputs out, and what it said.

import { stat } from 'node:fs/promises';
import type { StageProgress } from '../../../src/runtime/events.ts';
import type { GraphNode } from '../../../src/runtime/graph/graph.ts';
import type { Json } from '../../../src/runtime/graph/json.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { toFloat64 } from '../../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { groupModules, type LoraModule } from '../../../src/runtime/sdxl/lora.ts';
import type { Artifact, Stage, StageContext } from '../../../src/runtime/stage.ts';
import { at, type Matrix, matrix, multiply } from '../../helpers/linear-algebra.ts';

export interface Alone {
  readonly stage: Stage;
  readonly attributes?: { readonly [name: string]: Json | undefined };
  readonly inputs: { readonly [role: string]: string };
  readonly work: string;
}

/** Runs a stage and gives the paths of its outputs, its log lines, and what it recorded. */
export async function runAlone({ stage, attributes = {}, inputs, work }: Alone): Promise<{
  readonly outputs: { readonly [output: string]: string };
  readonly said: readonly string[];
  readonly record: { readonly [fact: string]: string | number };
}> {
  const said: string[] = [];
  const artifacts: Record<string, Artifact> = {};
  for (const [role, path] of Object.entries(inputs)) {
    const facts = await stat(path).catch(() => ({ size: 0 }));
    artifacts[role] = { digest: '0'.repeat(64) as Artifact['digest'], sizeBytes: facts.size, path: absolutePath(path) };
  }
  const written = attributes as { readonly [name: string]: Json };
  const context: Pick<StageContext, 'inputs' | 'work' | 'signal' | 'report'> & {
    readonly node: Pick<GraphNode, 'attributes' | 'settings' | 'files' | 'inputs'>;
  } = {
    node: { attributes: stage.canonical?.(written) ?? written, settings: written, files: {}, inputs: {} },
    inputs: artifacts,
    work: absolutePath(work),
    signal: new AbortController().signal,
    report: (progress: StageProgress) => {
      if (progress.type === 'log') said.push(progress.message);
    },
  };
  const { outputs, record = {} } = await stage.run(context as StageContext);
  return { outputs, said, record };
}

/** ΔW of every LoRA module of a file, flattened to out × in·k². */
export async function deltas(path: string): Promise<ReadonlyMap<string, Matrix>> {
  await using file = await SafetensorsFile.open(path);
  const result = new Map<string, Matrix>();
  for (const module of groupModules(file.header.tensors.keys()).modules) {
    const [up, down] = [await flat(file, module.tensors.get('up')), await foldedDown(file, module)];
    if (up === undefined || down === undefined) continue;
    const alpha = await flat(file, module.tensors.get('alpha'));
    const scale = alpha === undefined ? 1 : at(alpha, 0, 0) / down.rows;
    const product = multiply(up, down);
    result.set(module.name, { ...product, data: product.data.map((value) => value * scale) });
  }
  return result;
}

/** `down` with the middle of Tucker's three factors in it: down'[i, c, k] = Σ mid[i, j, k] · down[j, c]. */
export async function foldedDown(file: SafetensorsFile, module: LoraModule): Promise<Matrix | undefined> {
  const down = await flat(file, module.tensors.get('down'));
  const mid = await flat(file, module.tensors.get('mid'));
  if (down === undefined || mid === undefined) return down;
  const area = mid.columns / down.rows;
  const folded = new Float64Array(mid.rows * down.columns * area);
  for (const [index] of folded.entries()) {
    const [k, c, i] = [index % area, Math.floor(index / area) % down.columns, Math.floor(index / area / down.columns)];
    for (let j = 0; j < down.rows; j += 1) {
      folded[index] = (folded[index] ?? 0) + at(mid, i, j * area + k) * at(down, j, c);
    }
  }
  return matrix(mid.rows, down.columns * area, folded);
}

export async function flat(file: SafetensorsFile, name: string | undefined): Promise<Matrix | undefined> {
  if (name === undefined) return undefined;
  const { dtype, shape } = file.tensor(name);
  const numbers = toFloat64(await file.bytesOf(name), dtype) ?? new Float64Array();
  const rows = shape[0] ?? 1;
  return matrix(rows, rows === 0 ? 0 : numbers.length / rows, numbers);
}

export async function metadataOf(path: string): Promise<ReadonlyMap<string, string>> {
  await using file = await SafetensorsFile.open(path);
  return file.header.metadata ?? new Map();
}
