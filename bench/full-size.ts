// Files of SDXL's full size, made of names, shapes and chance: a checkpoint of 6.9 GB, and a LoRA of LyCORIS' preset
// `full` at ranks 8 and 256 (1,052 modules, 240 MB).
//
// The spectra fall off as those of trained LoRAs do, and their strength relative to the base is such that about 36 MB
// are left at the guide's threshold of -3.55. Whoever changes one of the numbers below moves that.

import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '../src/runtime/safetensors/writer.ts';
import type { LoraTarget } from '../src/runtime/sdxl/modules.ts';
import { sdxlTargets } from '../src/runtime/sdxl/standard.ts';

const fixtures = resolve(import.meta.dirname, '..', 'test', 'fixtures');

/** Standard deviation of the base's weights. */
const BASE_STRENGTH = 0.02;

/** How strong the factors of a module are, and how much weaker each direction is than the one before it. */
const LINEAR = { rank: 8, alpha: 4, up: 0.01, down: 0.0032, decay: 0.5 };
const CONV = { rank: 256, alpha: 4, up: 0.05, down: 0.064, decay: 0.93 };
/** Directions never get weaker than this part of the first, so that half precision still holds them. */
const WEAKEST = 0.02;

/** Every tensor of SDXL in F16. */
export async function makeBase(path: string): Promise<void> {
  const keys = JSON.parse(await readFile(join(fixtures, 'sdxl-keys.json'), 'utf8'));
  const shapes: { readonly [key: string]: readonly number[] } = { ...keys.unet, ...keys.te1, ...keys.te2, ...keys.vae };
  const chance = new Chance(1);
  const halves = new Float16Array(chance.normals.map((value) => value * BASE_STRENGTH));
  const tensors = Object.entries(shapes).map(([name, shape]): TensorToWrite => {
    const length = numbersIn(shape);
    const make = async (): Promise<Uint8Array> => {
      const bytes = new Uint8Array(2 * length);
      for (let done = 0; done < length; ) {
        const start = chance.whole(halves.length / 2);
        const piece = halves.subarray(start, start + Math.min(length - done, halves.length - start));
        bytes.set(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), 2 * done);
        done += piece.length;
      }
      return bytes;
    };
    return { name, dtype: 'F16', shape, source: { kind: 'made', make } };
  });
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
}

/** Every module of preset `full`, in F16. */
export async function makeLora(path: string): Promise<void> {
  const chance = new Chance(2);
  await writeSafetensors({
    path,
    tensors: [...sdxlTargets().values()].flatMap((target) => tensorsOf(target, chance)),
    metadata: new Map([
      ['ss_base_model_version', 'sdxl_base_v1-0'],
      ['ss_network_module', 'lycoris.kohya'],
    ]),
    hashes: true,
  });
}

function tensorsOf(target: LoraTarget, chance: Chance): readonly TensorToWrite[] {
  const { rank, alpha, up, down, decay } = target.kind === 'conv3x3' ? CONV : LINEAR;
  const kernel = { linear: [], conv1x1: [1, 1], conv3x3: [3, 3] }[target.kind];
  const shapes = {
    up: [target.out, rank, ...kernel.map(() => 1)],
    down: [rank, target.in, ...kernel],
  };
  const columns = numbersIn(shapes.down) / rank;
  // Modules differ in strength, as they do in life.
  const strength = down * 2 ** (2 * chance.unit() - 1);
  const ups = async () => chance.rows(target.out, rank, () => up);
  const downs = async () => chance.rows(rank, columns, (row) => strength * Math.max(decay ** row, WEAKEST));
  const alphas = new Float16Array([alpha]);
  return [
    { name: `${target.name}.alpha`, dtype: 'F16', shape: [], source: { kind: 'bytes', bytes: bytesOf(alphas) } },
    {
      name: `${target.name}.lora_down.weight`,
      dtype: 'F16',
      shape: shapes.down,
      source: { kind: 'made', make: downs },
    },
    { name: `${target.name}.lora_up.weight`, dtype: 'F16', shape: shapes.up, source: { kind: 'made', make: ups } },
  ];
}

/** Numbers that look like chance and are the same in every run: a pool of them, and places in it. */
class Chance {
  readonly normals: Float32Array<ArrayBuffer>;
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
    this.normals = Float32Array.from({ length: 2 ** 22 }, () => this.#normal());
  }

  /** From 0 to 1. Mulberry32. */
  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  whole(below: number): number {
    return Math.floor(this.unit() * below);
  }

  /** A matrix in half precision, each row of the strength that is asked for. */
  rows(rows: number, columns: number, strengthOf: (row: number) => number): Uint8Array {
    let from = this.whole(this.normals.length);
    const numbers = new Float16Array(rows * columns);
    for (let row = 0, at = 0; row < rows; row += 1) {
      const strength = strengthOf(row);
      for (const end = at + columns; at < end; at += 1) {
        numbers[at] = (this.normals[from] as number) * strength;
        from = from + 1 === this.normals.length ? 0 : from + 1;
      }
    }
    return bytesOf(numbers);
  }

  /** Box and Muller. */
  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.unit())) * Math.cos(2 * Math.PI * this.unit());
  }
}

function numbersIn(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

function bytesOf(numbers: Float16Array<ArrayBuffer>): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
