// What a LoRA's numbers say about each of its blocks: how strong it is, how strong compared with the base weights that it
// changes, and over how many directions its strength is spread.

/** What is known of one module. */
export interface ModuleNumbers {
  readonly name: string;
  readonly block: string;
  /** Singular values of ΔW, the strongest first; `undefined` for a module that was not decomposed. */
  readonly sigma: Float32Array | undefined;
  /** ‖ΔW‖ of a module that was not decomposed, where it could be measured otherwise. */
  readonly norm: number | undefined;
  /** ‖W‖ of the base weight that it changes. */
  readonly baseNorm: number | undefined;
}

export interface GroupNumbers {
  readonly modules: number;
  /** Those whose directions are known. */
  readonly decomposed: number;
  /** ‖ΔW‖, the root of the sum of squares over all modules that could be measured; `null` when none could. */
  readonly norm: number | null;
  /** ‖W‖ of the same modules, as far as the base has them. */
  readonly baseNorm: number | null;
  /** ‖ΔW‖ / ‖W‖ over the modules of which both are known. */
  readonly ratio: number | null;
  readonly spectrum: SpectrumSummary | null;
}

export interface BlockNumbers extends GroupNumbers {
  readonly block: string;
}

/** Of the decomposed modules of a block. Energy is Σσ², which is ‖ΔW‖². */
export interface SpectrumSummary {
  /** In all modules together. */
  readonly directions: number;
  /** The largest singular value, and the module that has it. */
  readonly strongest: { readonly sigma: number; readonly module: string };
  /** The smallest rank that holds such a share of the block's energy when each of its modules is cut to it. */
  readonly rank50: number;
  readonly rank90: number;
  readonly rank99: number;
  /**
   * How many directions of equal strength would be spread as widely: exp of the entropy of σ/Σσ in each module (Roy and
   * Vetterli, "The effective rank", 2007), averaged over the modules by their energy.
   */
  readonly effectiveRank: number;
}

/** `blocks` gives the order; modules of blocks that it does not name come last, under their own. */
export function numbersByBlock(
  modules: readonly ModuleNumbers[],
  blocks: readonly string[],
): { readonly whole: GroupNumbers; readonly blocks: readonly BlockNumbers[] } {
  const groups = new Map<string, ModuleNumbers[]>(blocks.map((block) => [block, []]));
  for (const module of modules) groups.set(module.block, [...(groups.get(module.block) ?? []), module]);
  const present = [...groups].filter(([, inside]) => inside.length > 0);
  return {
    whole: groupNumbers(modules),
    blocks: present.map(([block, inside]) => ({ block, ...groupNumbers(inside) })),
  };
}

function groupNumbers(modules: readonly ModuleNumbers[]): GroupNumbers {
  const measured = modules.flatMap((module) => {
    const norm = module.sigma === undefined ? module.norm : Math.hypot(...module.sigma);
    return norm === undefined ? [] : [{ norm, baseNorm: module.baseNorm }];
  });
  const both = measured.filter(({ baseNorm }) => baseNorm !== undefined);
  const baseNorm = rootOfSquares(both.map(({ baseNorm = 0 }) => baseNorm));
  const norm = rootOfSquares(measured.map(({ norm }) => norm));
  const change = rootOfSquares(both.map(({ norm }) => norm));
  const decomposed = modules.flatMap(({ name, sigma }) => (sigma === undefined ? [] : [{ name, sigma }]));
  return {
    modules: modules.length,
    decomposed: decomposed.length,
    norm,
    baseNorm,
    ratio: change === null || baseNorm === null || baseNorm === 0 ? null : change / baseNorm,
    spectrum: spectrumOf(decomposed),
  };
}

function rootOfSquares(numbers: readonly number[]): number | null {
  return numbers.length === 0 ? null : Math.hypot(...numbers);
}

interface Decomposed {
  readonly name: string;
  readonly sigma: Float32Array;
}

function spectrumOf(modules: readonly Decomposed[]): SpectrumSummary | null {
  if (modules.length === 0) return null;
  const energyByRank: number[] = [];
  let strongest = { sigma: 0, module: modules[0]?.name ?? '' };
  let directions = 0;
  for (const { name, sigma } of modules) {
    directions += sigma.length;
    for (const [index, value] of sigma.entries()) energyByRank[index] = (energyByRank[index] ?? 0) + value * value;
    if ((sigma[0] ?? 0) > strongest.sigma) strongest = { sigma: sigma[0] ?? 0, module: name };
  }
  const rankFor = (share: number): number => rankThatHolds(energyByRank, share);
  return {
    directions,
    strongest,
    rank50: rankFor(0.5),
    rank90: rankFor(0.9),
    rank99: rankFor(0.99),
    effectiveRank: meanEffectiveRank(modules),
  };
}

/** 0 where there is no energy to hold. */
function rankThatHolds(energyByRank: readonly number[], share: number): number {
  const total = energyByRank.reduce((sum, energy) => sum + energy, 0);
  let held = 0;
  for (const [index, energy] of energyByRank.entries()) {
    if (held >= share * total) return index;
    held += energy;
  }
  return total === 0 ? 0 : energyByRank.length;
}

function meanEffectiveRank(modules: readonly Decomposed[]): number {
  let weighted = 0;
  let energy = 0;
  for (const { sigma } of modules) {
    const square = sigma.reduce((sum, value) => sum + value * value, 0);
    weighted += square * effectiveRank(sigma);
    energy += square;
  }
  return energy === 0 ? 0 : weighted / energy;
}

function effectiveRank(sigma: Float32Array): number {
  const sum = sigma.reduce((total, value) => total + value, 0);
  let entropy = 0;
  for (const value of sigma) if (value > 0) entropy -= (value / sum) * Math.log(value / sum);
  return sum === 0 ? 0 : Math.exp(entropy);
}
