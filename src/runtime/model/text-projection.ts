// Whether a checkpoint has SDXL's text projection the wrong way round, as converters write it that copy the matrix of a
// diffusers folder as it is. Hardly any training changes it, so its first numbers tell.
//
// Both patterns were printed in github.com/Stability-AI/generative-models/issues/111.

import { toFloat64 } from '../safetensors/convert.ts';
import { TE2 } from '../sdxl/architecture.ts';
import type { ModelTensors } from './model-tensors.ts';

const TURNED = [-0.0348, -0.0037, 0.0261];
/** Half of the last digit that was printed, what bf16 rounds away, and a little of training. */
const TOLERANCE = 5e-4;

/** False for text encoders that are not SDXL's: nobody knows how theirs is meant. */
export async function isProjectionTurned({ tensors }: ModelTensors): Promise<boolean> {
  const projection = tensors.get(`${TE2}text_projection`);
  if (projection === undefined) return false;
  const bytes = await projection.bytes();
  const numberBytes = bytes.byteLength / projection.shape.reduce((product, size) => product * size, 1);
  const first = toFloat64(bytes.slice(0, TURNED.length * numberBytes), projection.dtype);
  return TURNED.every((value, index) => Math.abs((first?.[index] ?? Number.NaN) - value) < TOLERANCE);
}
