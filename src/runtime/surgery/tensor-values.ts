// What is in a tensor that is going to be written, wherever its bytes come from.

import { StageFailure } from '../events.ts';
import { fromNumbers, negate, toFloat32, toFloat64 } from '../safetensors/convert.ts';
import { elementsIn } from '../safetensors/dtype.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';

export async function valuesOf({ source }: TensorToWrite): Promise<Uint8Array> {
  switch (source.kind) {
    case 'bytes':
      return source.bytes;
    case 'copy':
      return source.file.bytesOf(source.tensor);
    case 'made':
      return source.make();
  }
}

/** The one number of a tensor such as alpha. Throws a `StageFailure` for anything else, and for NaN and infinity. */
export async function numberOf(tensor: TensorToWrite): Promise<number> {
  const { source, dtype, shape } = tensor;
  if (elementsIn(shape) !== 1) throw badTensor(tensor, 'is not one number');
  // There are thousands of these, and waiting costs more than reading.
  const bytes =
    source.kind === 'copy' ? source.file.bytesNow(source.file.tensor(source.tensor)) : await valuesOf(tensor);
  const numbers = toFloat64(bytes, dtype);
  const [value] = numbers ?? [];
  if (numbers?.length !== 1 || value === undefined) throw badTensor(tensor, 'is not one number');
  if (!Number.isFinite(value)) throw badTensor(tensor, 'is not a finite number');
  return value;
}

/** The same numbers with the other sign, where the question asked before they are written is answered with yes. */
export function negatedTensor(tensor: TensorToWrite, isWanted: () => Promise<boolean>): TensorToWrite {
  const make = async (): Promise<Uint8Array> => {
    const bytes = await valuesOf(tensor);
    if (!(await isWanted())) return bytes;
    const copy = new Uint8Array(bytes);
    if (!negate(copy, tensor.dtype)) throw badTensor(tensor, `is ${tensor.dtype} and has no signs to flip`);
    return copy;
  };
  return { ...tensor, source: { kind: 'made', make } };
}

/**
 * Every number times `factor`, without loss beyond that of singles: halves that a factor would round become singles.
 * A power of two leaves the digits of BF16 alone, whose range is that of singles; that of F16 is too small to say so.
 */
export function multipliedTensor(tensor: TensorToWrite, factor: number): TensorToWrite {
  if (factor === 1) return tensor;
  if (factor === -1) return negatedTensor(tensor, async () => true);
  const dtype = productDtype(tensor, factor);
  const make = async (): Promise<Uint8Array> => {
    const bytes = await valuesOf(tensor);
    const numbers = dtype === 'F64' ? toFloat64(bytes, tensor.dtype) : toFloat32(bytes, tensor.dtype);
    return fromNumbers(numbers?.map((value) => value * factor) ?? new Float32Array(), dtype);
  };
  return { ...tensor, dtype, source: { kind: 'made', make } };
}

function productDtype(tensor: TensorToWrite, factor: number): 'F64' | 'F32' | 'BF16' {
  const { dtype } = tensor;
  if (dtype === 'F64' || dtype === 'F32') return dtype;
  if (dtype === 'BF16') return Number.isInteger(Math.log2(Math.abs(factor))) ? 'BF16' : 'F32';
  if (dtype === 'F16') return 'F32';
  throw badTensor(tensor, `is ${dtype} and cannot be multiplied`);
}

function badTensor({ name, source }: TensorToWrite, problem: string): StageFailure {
  const [written, file] = source.kind === 'copy' ? [source.tensor, ` of "${source.file.path}"`] : [name, ''];
  return new StageFailure({ kind: 'bad-input', message: `The tensor "${written}"${file} ${problem}.` });
}
