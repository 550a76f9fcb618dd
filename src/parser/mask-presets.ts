// The masks that ComfyUI's block-weight loader (the Inspire pack) knows by name.
// Those with LyC are for LoRAs with convolutions; the others count only blocks with attention.
// Left out are presets that have no numbers of their own, but letters for what its node draws or has beside it.

/** How many blocks of each section a mask counts. */
const counted = {
  'SDXL-': { IN: 4, MID: 1, OUT: 6 },
  'SDXL-LyC-': { IN: 8, MID: 3, OUT: 9 },
  'SD-': { IN: 6, MID: 1, OUT: 9 },
  'SD-LyC-': { IN: 11, MID: 3, OUT: 12 },
} as const;

type Prefix = keyof typeof counted;
type Section = 'IN' | 'MID' | 'OUT';

/** What each kind of preset keeps, and its first number: the weight of all that lies outside the blocks. */
const kinds: { readonly [kind: string]: { readonly first: 0 | 1; readonly kept: readonly Section[] } } = {
  NONE: { first: 0, kept: [] },
  ALL: { first: 1, kept: ['IN', 'MID', 'OUT'] },
  INALL: { first: 1, kept: ['IN'] },
  MIDALL: { first: 1, kept: ['MID'] },
  OUTALL: { first: 1, kept: ['OUT'] },
};

/** More of them for Stable Diffusion 1, by the place of the first weight that is not 0 behind the first number, which is 1. */
const graded: { readonly [name: string]: readonly [from: number, weights: readonly number[]] } = {
  'SD-INS': [1, [1, 1, 1]],
  'SD-IND': [4, [1, 1, 1]],
  'SD-MIDD': [4, [1, 1, 1, 1, 1, 1, 1, 1]],
  'SD-MIDD0.2': [6, [0.2, 0.4, 0.4, 0.2]],
  'SD-MIDD0.8': [5, [0.5, 0.8, 0.8, 0.4]],
  'SD-MOUT': [6, [1, 1, 1, 1, 1, 1, 1, 1, 0.5]],
  'SD-OUTD': [8, [1, 1, 1, 1]],
  'SD-OUTS': [12, [1, 1, 1, 1, 1]],
};

function presetsOf(prefix: Prefix): readonly (readonly [name: string, mask: string])[] {
  return Object.entries(kinds).flatMap(([kind, { first, kept }]) => {
    // The middle alone has no preset where it is one block of Stable Diffusion 1.
    if (prefix === 'SD-' && kind === 'MIDALL') return [];
    const sections = Object.entries(counted[prefix]).flatMap(([section, count]) =>
      Array<number>(count).fill(kept.includes(section as Section) ? 1 : 0),
    );
    return [[prefix + kind, [first, ...sections].join(',')] as const];
  });
}

function gradedPresets(): readonly (readonly [name: string, mask: string])[] {
  const others = Object.entries(graded).map(([name, [from, weights]]) => {
    const mask = Array<number>(17).fill(0);
    mask[0] = 1;
    mask.splice(from, weights.length, ...weights);
    return [name, mask.join(',')] as const;
  });
  return [...others, ['SD-ALL0.5', Array(17).fill(0.5).join(',')]];
}

/** Those for SDXL, in the order of that pack. */
export const MASK_PRESETS: ReadonlyMap<string, string> = new Map([...presetsOf('SDXL-'), ...presetsOf('SDXL-LyC-')]);

/** Those for Stable Diffusion 1 and 2. */
export const SD_MASK_PRESETS: ReadonlyMap<string, string> = new Map([
  ...presetsOf('SD-'),
  ...gradedPresets(),
  ...presetsOf('SD-LyC-'),
]);

const byUpperName = new Map([...MASK_PRESETS, ...SD_MASK_PRESETS].map(([name, mask]) => [name.toUpperCase(), mask]));

/** The numbers of a preset; `undefined` where no preset has this name. Capitals do not matter. */
export function maskPreset(name: string): string | undefined {
  return byUpperName.get(name.trim().toUpperCase());
}
