// ΔW of a module of any family in the form in which inner products are taken.

import { asFactors, asWhole, type FactorPair, type Matrix, type Product } from '../adapters/product.ts';
import { readProduct } from '../adapters/read-product.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { columnsOf, type Delta, type Dense, type Factors, rowsOf } from './delta.ts';
import type { ModuleFacts } from './module-facts.ts';

export { NoDelta } from '../adapters/read-product.ts';

/** Throws `NoDelta`. */
export async function readDelta(file: SafetensorsFile, { module, scale = 1 }: ModuleFacts): Promise<Delta> {
  return toDelta(await readProduct(file, module), scale);
}

function toDelta(product: Product, scale: number): Delta {
  switch (product.kind) {
    case 'factors':
      return factors(product, scale);
    case 'whole':
      return dense(product.whole, scale);
    case 'hadamard': {
      const { up, down } = product.first;
      // r² factors may be more numbers than the product itself.
      if (up.columns * product.second.up.columns <= Math.min(up.rows, down.columns)) {
        return factors(asFactors(product), scale);
      }
      return dense(asWhole(product), scale);
    }
    case 'kron': {
      const [first, second] = [product.first, product.second].map((factor) =>
        factor.kind === 'factors' ? factors(factor, 1) : dense(factor.whole, 1),
      ) as [Factors | Dense, Factors | Dense];
      return { kind: 'kron', first, second, scale };
    }
  }
}

function factors({ up, down }: FactorPair, scale: number): Factors {
  return {
    kind: 'factors',
    up: columnsOf(up.data, up.rows, up.columns),
    down: rowsOf(down.data, down.rows, down.columns),
    scale,
  };
}

function dense({ rows, columns, data }: Matrix, scale: number): Dense {
  return { kind: 'dense', out: rows, columns, data, scale };
}
