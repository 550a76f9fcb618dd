// Patterns of layers' names that fit no layer of SDXL, found without a look at the checkpoint. Those that only this
// checkpoint, or the network's preset, has nothing for are for the worker to find.

import { isLayerPattern } from '../parser/blocks.ts';
import { type Diagnostic, unfitPattern } from '../parser/diagnostics/diagnostics.ts';
import type { BlockOf, CheckedProgram } from '../parser/model.ts';
import { fitsSome, namesLike } from '../runtime/sdxl/layer-names.ts';

export function unfitPatterns({ blocks }: CheckedProgram): Diagnostic[] {
  const found = new Map<string, Diagnostic>();
  for (const block of blocks) {
    if (block.kind !== 'train') continue;
    for (const { setting, pattern } of patternsOf(block)) {
      if (fitsSome(pattern)) continue;
      const span = block.attributeSpans[setting === 'block_lr' ? 'block_lr' : 'network'] ?? block.span;
      // The variants of a block have the same patterns.
      found.set(
        `${setting} ${pattern} ${span.source.path} ${span.start}`,
        unfitPattern(span, setting, pattern, namesLike(pattern)),
      );
    }
  }
  return [...found.values()];
}

function patternsOf({ attributes: { network, block_lr } }: BlockOf<'train'>) {
  const ranks = 'dims' in network ? { dims: network.dims, conv_dims: network.conv_dims } : {};
  const keyed = Object.entries({ block_lr, ...ranks }).flatMap(([setting, numbers]) =>
    Object.keys(numbers)
      .filter(isLayerPattern)
      .map((pattern) => ({ setting, pattern })),
  );
  return [...network.modules.map((pattern) => ({ setting: 'modules', pattern })), ...keyed];
}
