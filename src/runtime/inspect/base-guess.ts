// Which base model a LoRA was made for, from the names and shapes of its modules. Metadata is heard last: it is often wrong.

import type { LoraTarget } from '../sdxl/modules.ts';
import type { ModuleFacts } from './module-facts.ts';

export interface BaseGuess {
  readonly base: 'SDXL' | 'SD 1.x' | 'SD 2.x' | 'another family' | 'unknown';
  /** What speaks for it, in words that follow the base's name. */
  readonly because: string;
  /** Modules of SDXL that have other shapes here. */
  readonly misfits: readonly string[];
}

/** Flux, Stable Diffusion 3, video models: their blocks have names that SDXL does not have. */
const FOREIGN =
  /(?:^|[._])(?:double_blocks|single_blocks|joint_blocks|single_transformer_blocks|context_embedder|x_embedder)[._]/;

export function guessBase(
  facts: readonly ModuleFacts[],
  targets: ReadonlyMap<string, LoraTarget>,
  metadata: ReadonlyMap<string, string> | undefined,
): BaseGuess {
  if (facts.length === 0) return { base: 'unknown', because: 'there are no modules', misfits: [] };
  const foreign = facts.find(({ module }) => FOREIGN.test(module.name));
  if (foreign !== undefined) return { base: 'another family', because: `it has "${foreign.module.name}"`, misfits: [] };
  const byShape = fromShapes(facts, targets);
  if (byShape !== undefined) return byShape;
  const stated = metadata?.get('ss_base_model_version') ?? metadata?.get('modelspec.architecture') ?? '';
  const base = statedBase(stated);
  if (base !== undefined) return { base, because: `its metadata says "${stated}"`, misfits: [] };
  return { base: 'unknown', because: 'neither its names nor its metadata tell', misfits: [] };
}

function fromShapes(facts: readonly ModuleFacts[], targets: ReadonlyMap<string, LoraTarget>): BaseGuess | undefined {
  const context = facts.find(({ key, columns }) => /_attn2_to_[kv]$/.test(key) && columns !== undefined)?.columns;
  const hasTe = facts.some(({ name }) => name?.component === 'te');
  const textWidth = facts.find(({ name, key }) => name?.component === 'te' && key.endsWith('_q_proj'))?.columns;
  const isDeep = facts.some(({ place }) => /^(?:IN|OUT)(?:09|1\d)$/.test(place));
  const isSdxlOnly = facts.some(
    ({ key, name }) => name?.component === 'te2' || /_label_emb_|_transformer_blocks_[1-9]/.test(key),
  );
  const of = (base: BaseGuess['base'], because: string): BaseGuess => ({ base, because, misfits: [] });
  if (!isSdxlOnly) {
    if (context === 768) return of('SD 1.x', 'its attention reads text 768 values wide');
    if (context === 1024) return of('SD 2.x', 'its attention reads text 1024 values wide');
    if (hasTe) return of(textWidth === 1024 ? 'SD 2.x' : 'SD 1.x', 'it names one text encoder');
    if (isDeep) return of('SD 1.x', 'it has blocks that SDXL does not have');
  }
  const known = facts.flatMap((fact) => {
    const target = targets.get(fact.key);
    return target === undefined || fact.columns === undefined ? [] : [{ fact, fits: fits(fact, target) }];
  });
  const misfits = known.flatMap(({ fact, fits: fit }) => (fit ? [] : [fact.module.name]));
  if (known.length > misfits.length) {
    const because =
      misfits.length === 0 ? 'every shape fits' : `${misfits.length} of ${known.length} shapes do not fit`;
    return { base: 'SDXL', because, misfits };
  }
  if (isSdxlOnly)
    return of('SDXL', known.length === 0 ? 'its names are those of SDXL' : "SDXL's names, with other widths");
  return undefined;
}

function fits({ out, columns }: ModuleFacts, target: LoraTarget): boolean {
  return out === target.out && columns === target.in * (target.kind === 'conv3x3' ? 9 : 1);
}

/** As trainers write it: `sdxl_base_v1-0`, `stable-diffusion-v1/lora`, `sd_v1`. */
export function statedBase(text: string): BaseGuess['base'] | undefined {
  if (/sdxl|stable-diffusion-xl/i.test(text)) return 'SDXL';
  if (/sd[_-]?v?1|stable-diffusion-v1/i.test(text)) return 'SD 1.x';
  if (/sd[_-]?v?2|stable-diffusion-v2/i.test(text)) return 'SD 2.x';
  return text === '' ? undefined : 'another family';
}
