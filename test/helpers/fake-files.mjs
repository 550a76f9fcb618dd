// The small files that the fake worker writes: LoRAs with real names, latents, pictures, decompositions.

import { createHash } from 'node:crypto';
import { crc32, deflateSync, inflateSync } from 'node:zlib';

/** SHA-256 of the parts one after another, in hexadecimal. */
export function digestOf(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

/** Two modules in text encoders and four in the UNet, in blocks that chops tell apart, one of them a convolution. */
export const FAKE_MODULES = {
  lora_te1_text_model_encoder_layers_0_mlp_fc1: { up: [6, 2], down: [2, 4] },
  lora_te2_text_model_encoder_layers_0_mlp_fc2: { up: [4, 2], down: [2, 6] },
  lora_unet_input_blocks_4_1_proj_in: { up: [8, 2], down: [2, 8] },
  lora_unet_middle_block_1_proj_in: { up: [8, 2], down: [2, 8] },
  lora_unet_output_blocks_1_0_in_layers_2: { up: [8, 3, 1, 1], down: [3, 4, 3, 3] },
  lora_unet_output_blocks_1_1_proj_out: { up: [8, 2], down: [2, 8] },
};

/** A LoRA in kohya's names whose numbers follow from the seed. */
export function fakeLora(seed) {
  const random = numbersFrom(seed);
  const tensors = {};
  for (const [module, { up, down }] of Object.entries(FAKE_MODULES)) {
    tensors[`${module}.alpha`] = { shape: [], values: [1] };
    tensors[`${module}.lora_down.weight`] = { shape: down, values: fill(down, random) };
    tensors[`${module}.lora_up.weight`] = { shape: up, values: fill(up, random) };
  }
  return writeTensors(tensors, { ss_base_model_version: 'sdxl_base_v1-0', ss_network_module: 'lycoris.kohya' });
}

export function fakeLatents(seed, [width, height]) {
  const shape = [4, height / 8, width / 8];
  const random = numbersFrom(seed);
  return writeTensors({
    mean: { shape, values: fill(shape, random) },
    logvar: { shape, values: fill(shape, () => -8) },
  });
}

/** A PNG of one pixel, whose color follows from the LoRA and the prompt. */
export function fakePicture(lora, prompt) {
  const color = Buffer.from(digestOf(lora, JSON.stringify(prompt)), 'hex').subarray(0, 3);
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const length = Buffer.alloc(4);
    const check = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const header = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.concat([Buffer.from([0]), color]))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Root mean square of the differences of two pictures of one pixel, over 255. */
export function distanceOf(first, second) {
  // The pixel stands behind the signature (8 bytes), IHDR (25), IDAT's length and type (8) and the row's filter.
  const [one, other] = [first, second].map((png) => inflateSync(png.subarray(41)).subarray(1));
  const squares = [0, 1, 2].map((channel) => (one[channel] - other[channel]) ** 2);
  return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / 3) / 255;
}

/** The factors of every LoRA module, as the real worker lays them out, and the sorted names. */
export function decompose({ tensors }) {
  const names = [...tensors.keys()]
    .filter((key) => key.endsWith('.lora_up.weight'))
    .map((key) => key.slice(0, -'.lora_up.weight'.length))
    .sort();
  const factors = {};
  const facts = {};
  for (const name of names) {
    const up = tensors.get(`${name}.lora_up.weight`);
    const down = tensors.get(`${name}.lora_down.weight`);
    const rank = down.shape[0];
    const alpha = tensors.get(`${name}.alpha`)?.values[0] ?? rank;
    const { u, s, vt } = singularValues(product(up, down, alpha / rank), Math.min(rank, up.shape[0]));
    factors[`${name}.u`] = { shape: [u.length, u[0].length], values: u.flat() };
    factors[`${name}.s`] = { shape: [s.length], values: s };
    factors[`${name}.vt`] = { shape: [vt.length, vt[0].length], values: vt.flat() };
    const shapes = { down_shape: down.shape, up_shape: up.shape };
    facts[name] = { alpha, rank, scale: Math.abs(alpha) / rank, ...shapes, family: 'LoRA', residual: 0, discarded: 0 };
  }
  const metadata = { 'lorac.modules': JSON.stringify(facts), 'lorac.skipped': '{}' };
  return { names, bytes: writeTensors(factors, metadata) };
}

/** Tensors of any float dtype as arrays of numbers, and the metadata. */
export function readTensors(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata = {}, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    const data = bytes.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]);
    tensors.set(name, { dtype, shape, values: readers[dtype](data) });
  }
  return { tensors, metadata };
}

/** An F32 safetensors file, sorted. */
export function writeTensors(tensors, metadata) {
  const header = metadata ? { __metadata__: metadata } : {};
  const parts = [];
  let end = 0;
  for (const name of Object.keys(tensors).sort()) {
    const { shape, values } = tensors[name];
    const data = Buffer.from(Float32Array.from(values).buffer);
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + data.length] };
    end += data.length;
    parts.push(data);
  }
  let text = JSON.stringify(header);
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  return Buffer.concat([length, Buffer.from(text), ...parts]);
}

const readers = {
  F32: (data) => Array.from({ length: data.length / 4 }, (_, index) => data.readFloatLE(4 * index)),
  F16: (data) => Array.from({ length: data.length / 2 }, (_, index) => half(data.readUInt16LE(2 * index))),
  BF16: (data) => {
    const word = Buffer.alloc(4);
    return Array.from({ length: data.length / 2 }, (_, index) => {
      word.writeUInt16LE(data.readUInt16LE(2 * index), 2);
      return word.readFloatLE(0);
    });
  },
};

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * 2 ** -24 * fraction;
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

/** scale * up @ down as rows, kernels flattened. */
function product(up, down, scale) {
  const [rows, rank] = up.shape;
  const columns = down.values.length / rank;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += up.values[row * rank + k] * down.values[k * columns + column];
      return scale * sum;
    }),
  );
}

/** One-sided Jacobi: turns pairs of rows until all are orthogonal; their lengths are then the singular values. */
function singularValues(matrix, rank) {
  const rows = matrix.map((row) => [...row]);
  const turns = rows.map((_, i) => rows.map((_, j) => (i === j ? 1 : 0)));
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  for (let sweep = 0; sweep < 40; sweep++) {
    for (let p = 0; p < rows.length; p++) {
      for (let q = p + 1; q < rows.length; q++) {
        const mixed = dot(rows[p], rows[q]);
        if (Math.abs(mixed) < 1e-14) continue;
        const zeta = (dot(rows[q], rows[q]) - dot(rows[p], rows[p])) / (2 * mixed);
        const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cosine = 1 / Math.hypot(1, tangent);
        for (const vectors of [rows, turns]) {
          for (let k = 0; k < vectors[p].length; k++) {
            const [a, b] = [vectors[p][k], vectors[q][k]];
            vectors[p][k] = cosine * (a - tangent * b);
            vectors[q][k] = cosine * (tangent * a + b);
          }
        }
      }
    }
  }
  const directions = rows
    .map((row, index) => ({ strength: Math.sqrt(dot(row, row)), row, u: turns[index] }))
    .sort((a, b) => b.strength - a.strength)
    .slice(0, rank);
  return {
    u: directions.map(({ u }) => u),
    s: directions.map(({ strength }) => strength),
    vt: directions.map(({ row, strength }) => row.map((value) => (strength > 0 ? value / strength : 0))),
  };
}

function fill(shape, next) {
  return Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => next());
}

/** Numbers between -0.1 and 0.1 that follow from a digest. */
function numbersFrom(digest) {
  let state = Number.parseInt(digest.slice(0, 8), 16);
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround((state / 2 ** 32 - 0.5) / 5);
  };
}
