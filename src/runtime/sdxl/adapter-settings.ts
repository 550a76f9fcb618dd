// What PEFT says about scales outside of the tensors: diffusers keeps it as JSON in the header, `unet.lora_alpha`,
// `unet.alpha_pattern` and so on. Without it such a LoRA has the scale 1.

import { readModuleName } from './names.ts';

export interface AdapterSettings {
  /** The scale of the module of that name and rank. */
  scaleOf(module: string, rank: number): number;
}

interface Settings {
  readonly alpha: number | undefined;
  /** By the end of a module's path; by all of it after a `^`. */
  readonly alphas: ReadonlyMap<string, Pattern>;
  readonly isRankStabilized: boolean;
}

interface Pattern {
  readonly alpha: number;
  /** Where two patterns fit, the one that was written first holds. */
  readonly place: number;
}

/** `undefined` when the metadata has none, or none that can be read. */
export function readAdapterSettings(metadata: ReadonlyMap<string, string> | undefined): AdapterSettings | undefined {
  const root = parseObject(metadata?.get('lora_adapter_metadata'));
  if (root === undefined) return undefined;
  const byComponent = new Map(
    ['unet', 'text_encoder', 'text_encoder_2'].map((component) => [component, settingsOf(root, component)]),
  );
  return {
    scaleOf(module, rank) {
      const component = readModuleName(module)?.component;
      const settings = byComponent.get(
        { te: 'text_encoder', te1: 'text_encoder', te2: 'text_encoder_2' }[component as string] ?? 'unet',
      );
      const alpha = settings && (patternAlpha(module, settings.alphas) ?? settings.alpha);
      if (alpha === undefined || rank === 0) return 1;
      return alpha / (settings?.isRankStabilized ? Math.sqrt(rank) : rank);
    },
  };
}

function settingsOf(root: { readonly [key: string]: unknown }, component: string): Settings {
  const read = (key: string): unknown => root[`${component}.${key}`] ?? root[key];
  const [alpha, patterns] = [read('lora_alpha'), read('alpha_pattern')];
  const pairs = typeof patterns === 'object' && patterns !== null ? Object.entries(patterns) : [];
  return {
    alpha: typeof alpha === 'number' ? alpha : undefined,
    alphas: new Map(pairs.flatMap(([pattern, value], place) => alphasOf(pattern, value, place)).reverse()),
    isRankStabilized: read('use_rslora') === true,
  };
}

/** Patterns are taken by the letter, since they come from a file; we ourselves write several paths as one, `(?:a|b)`. */
function alphasOf(pattern: string, value: unknown, place: number): readonly (readonly [string, Pattern])[] {
  if (typeof value !== 'number') return [];
  const end = pattern.replace(/\$$/, '');
  const [, several] = /^\(\?:([^()]*)\)$/.exec(end) ?? [];
  return (several?.split('|') ?? [end]).map((path) => [path, { alpha: value, place }] as const);
}

/** What stands before the path inside of a network, which is what PEFT knows. */
const COMPONENT = /^(?:(?:unet|text_encoder|text_encoder_2)\.)?(?:base_model\.model\.)*/;

/** PEFT looks for the end of a module's path. */
function patternAlpha(module: string, alphas: ReadonlyMap<string, Pattern>): number | undefined {
  const inside = module.replace(COMPONENT, '');
  // One of the text encoders lost its outer name in transformers 5.
  const whole = [inside, inside.replace(/^text_model\./, '')].flatMap((path) => alphas.get(`^${path}`) ?? []);
  let found = alphas.get(module) ?? whole[0];
  for (let dot = module.indexOf('.'); dot >= 0; dot = module.indexOf('.', dot + 1)) {
    const other = alphas.get(module.slice(dot + 1));
    if (other && (found === undefined || other.place < found.place)) found = other;
  }
  return found?.alpha;
}

function parseObject(text: string | undefined): { readonly [key: string]: unknown } | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as { readonly [key: string]: unknown }) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
