// The rank of the factors that `asFactors` gives, told from shapes alone.

import type { LoraModule } from '../sdxl/lora.ts';

/** The shape of the tensor in that role; `undefined` where the module has none. */
export type ShapeOf = (role: string) => readonly number[] | undefined;

/** `undefined` for a module that is no product, or that lacks a factor. */
export function exactRank({ family }: LoraModule, shapeOf: ShapeOf): number | undefined {
  switch (family) {
    case 'LoRA':
      return shapeOf('up')?.[1];
    case 'LoHa':
      return product(
        pairRank(shapeOf, 'hada_w1_a', shapeOf('hada_t1')),
        pairRank(shapeOf, 'hada_w2_a', shapeOf('hada_t2')),
      );
    case 'LoKr':
      return product(
        wholeRank(shapeOf('lokr_w1')) ?? pairRank(shapeOf, 'lokr_w1_a', undefined),
        wholeRank(shapeOf('lokr_w2')) ?? pairRank(shapeOf, 'lokr_w2_a', shapeOf('lokr_t2')),
      );
    case 'full':
      return wholeRank(shapeOf('diff'));
    default:
      return undefined;
  }
}

/** With a core, the first factor lies transposed. */
function pairRank(shapeOf: ShapeOf, first: string, core: readonly number[] | undefined): number | undefined {
  return shapeOf(first)?.[core === undefined ? 1 : 0];
}

function wholeRank(shape: readonly number[] | undefined): number | undefined {
  if (shape === undefined) return undefined;
  const [rows = 1, ...rest] = shape;
  return Math.min(
    rows,
    rest.reduce((columns, side) => columns * side, 1),
  );
}

function product(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a * b;
}
