// Which base model a LoRA was made for, from the names and shapes of its modules. Metadata is heard last: it is often wrong.

import { type Network, STABLE_DIFFUSION } from '../../parser/blocks.ts';
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

export interface BaseClues {
  /** Whose blocks the modules are in. */
  readonly network: Network;
  /** Modules of SDXL by kohya's names. */
  readonly targets: ReadonlyMap<string, LoraTarget>;
  readonly metadata: ReadonlyMap<string, string> | undefined;
}

export function guessBase(facts: readonly ModuleFacts[], { network, targets, metadata }: BaseClues): BaseGuess {
  if (facts.length === 0) return { base: 'unknown', because: 'there are no modules', misfits: [] };
  const foreign = facts.find(({ module }) => FOREIGN.test(module.name));
  if (foreign !== undefined) return { base: 'another family', because: `it has "${foreign.module.name}"`, misfits: [] };
  if (network === STABLE_DIFFUSION) return whichVersion(facts);
  const bySdxl = fromShapes(facts, targets);
  if (bySdxl !== undefined) return bySdxl;
  const stated = metadata?.get('ss_base_model_version') ?? metadata?.get('modelspec.architecture') ?? '';
  const base = statedBase(stated);
  if (base !== undefined) return { base, because: `its metadata says "${stated}"`, misfits: [] };
  return { base: 'unknown', because: 'neither its names nor its metadata tell', misfits: [] };
}

/** Stable Diffusion 2 reads wider text, and its text encoder is as wide. */
function whichVersion(facts: readonly ModuleFacts[]): BaseGuess {
  const context = facts.find(({ key, columns }) => /_attn2_to_[kv]$/.test(key) && columns !== undefined)?.columns;
  const text = facts.find(({ place, key }) => place === 'TE' && key.endsWith('_q_proj'))?.columns;
  const of = (base: BaseGuess['base'], because: string): BaseGuess => ({ base, because, misfits: [] });
  if (context !== undefined && context !== 768 && context !== 1024)
    return of('SD 1.x', 'it has blocks that SDXL does not have');
  if (context !== undefined)
    return of(context === 1024 ? 'SD 2.x' : 'SD 1.x', `its attention reads text ${context} values wide`);
  if (facts.some(({ place }) => place === 'TE'))
    return of(text === 1024 ? 'SD 2.x' : 'SD 1.x', 'it names one text encoder');
  return of('SD 1.x', 'it has blocks that SDXL does not have');
}

function fromShapes(facts: readonly ModuleFacts[], targets: ReadonlyMap<string, LoraTarget>): BaseGuess | undefined {
  const isSdxlOnly = facts.some(
    ({ key, name }) => name?.component === 'te2' || /_label_emb_|_transformer_blocks_[1-9]/.test(key),
  );
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
  if (!isSdxlOnly) return undefined;
  const because = known.length === 0 ? 'its names are those of SDXL' : "SDXL's names, with other widths";
  return { base: 'SDXL', because, misfits: [] };
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
