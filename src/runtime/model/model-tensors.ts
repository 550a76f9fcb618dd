// The tensors of a base under the names that a single file gives them, whichever form it has.
// Only headers are read until bytes are asked for. To be closed.

import { dirname } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';
import { type BaseFiles, isRoleOf, PARTS, type Part } from '../graph/model-folder.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { CHECKPOINT_LIMITS, type TensorInfo } from '../safetensors/header.ts';
import { type Architecture, NotSdxl, readArchitecture } from '../sdxl/architecture.ts';
import { type CheckpointTensor, checkpointTensor } from '../sdxl/folder-names.ts';
import { openWeights } from '../surgery/weights-file.ts';
import { readScheduler } from './scheduler-config.ts';

export interface ModelTensor {
  readonly name: string;
  readonly dtype: TensorInfo['dtype'];
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

export interface ModelTensors extends AsyncDisposable {
  /** What messages call it: the file, or the folder. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, ModelTensor>;
  /** Throws `NotSdxl`. */
  architecture(): Promise<Architecture>;
}

/** Throws a `StageFailure` for a file that cannot be read, and `NotSdxl` for a tensor of a folder that SDXL lacks. */
export async function openModel(files: BaseFiles): Promise<ModelTensors> {
  const { checkpoint } = files;
  return checkpoint === undefined ? openFolder(files) : openFile(checkpoint);
}

async function openFile(path: AbsolutePath): Promise<ModelTensors> {
  const file = await openWeights(path, CHECKPOINT_LIMITS);
  const { tensors, metadata } = file.header;
  const listed = [...tensors.values()].map((info) => [info.name, tensorOf(file, info)] as const);
  return {
    path,
    tensors: new Map(listed),
    architecture: async () => readArchitecture(tensors, metadata),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

async function openFolder(files: BaseFiles): Promise<ModelTensors> {
  const { 'checkpoint.scheduler': scheduler, 'checkpoint.unet': unet = '' } = files;
  const opened: SafetensorsFile[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  try {
    const pieces: Piece[] = [];
    for (const part of PARTS) {
      const paths = Object.entries(files).flatMap(([role, path]) => (isRoleOf(part, role) ? [path] : []));
      const shards: SafetensorsFile[] = [];
      for (const path of paths) {
        const file = await openWeights(path, CHECKPOINT_LIMITS);
        opened.push(file);
        shards.push(file);
      }
      pieces.push(...piecesOf(part, shards));
    }
    const tensors = joined(pieces);
    return {
      path: dirname(dirname(unet)),
      tensors,
      architecture: async () => {
        const architecture = readArchitecture(tensors, undefined);
        return scheduler === undefined ? architecture : { ...architecture, ...(await readScheduler(scheduler)) };
      },
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function tensorOf(file: SafetensorsFile, { name, dtype, shape, begin, end }: TensorInfo): ModelTensor {
  return { name, dtype, shape, sizeBytes: end - begin, bytes: () => file.bytesOf(name) };
}

/** A tensor of the folder, in the shape that it has in a single file, and what it is there. */
interface Piece {
  readonly tensor: ModelTensor;
  readonly meaning: CheckpointTensor;
}

function piecesOf(part: Part, files: readonly SafetensorsFile[]): readonly Piece[] {
  const names = new Set(files.flatMap(({ header }) => [...header.tensors.keys()]));
  return files.flatMap((file) =>
    [...file.header.tensors.values()].flatMap((info): readonly Piece[] => {
      const meaning = checkpointTensor(part, info.name, names);
      if (meaning === 'needless') return [];
      if (meaning !== undefined) return [{ meaning, tensor: changed(tensorOf(file, info), meaning) }];
      throw new NotSdxl(
        `has a tensor in its "${part}" that SDXL does not have: "${info.name}"`,
        'Name a plain SDXL model; what is added to one would be lost.',
      );
    }),
  );
}

function changed(tensor: ModelTensor, { name, change }: CheckpointTensor): ModelTensor {
  const { shape } = tensor;
  if (change === 'transpose' && shape.length === 2) {
    const bytes = async () => transposed(await tensor.bytes(), shape);
    return { ...tensor, name, shape: shape.toReversed(), bytes };
  }
  const isBare = change === 'add-kernel' && shape.length === 2;
  return { ...tensor, name, shape: isBare ? [...shape, 1, 1] : shape };
}

function transposed(bytes: Uint8Array<ArrayBuffer>, [rows = 1, columns = 1]: readonly number[]) {
  const size = bytes.byteLength / (rows * columns);
  const turned = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const from = (row * columns + column) * size;
      turned.set(bytes.subarray(from, from + size), (column * rows + row) * size);
    }
  }
  return turned;
}

/** q, k and v as one. Thirds that do not fit each other have a shape that whoever reads it refuses. */
function joined(pieces: readonly Piece[]): ReadonlyMap<string, ModelTensor> {
  const byName = Map.groupBy(pieces, ({ meaning }) => meaning.name);
  return new Map(
    [...byName].map(([name, each]) => {
      const parts = each
        .toSorted((a, b) => (a.meaning.third ?? 0) - (b.meaning.third ?? 0))
        .map(({ tensor }) => tensor);
      return [name, parts.length === 1 ? (parts[0] as ModelTensor) : stacked(name, parts)];
    }),
  );
}

function stacked(name: string, parts: readonly ModelTensor[]): ModelTensor {
  const [first] = parts as readonly [ModelTensor, ...ModelTensor[]];
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  return {
    name,
    dtype: first.dtype,
    shape: [rows, ...first.shape.slice(1)],
    sizeBytes: parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    bytes: async () => Buffer.concat(await Promise.all(parts.map((part) => part.bytes()))) as Uint8Array<ArrayBuffer>,
  };
}
