// The masks that ComfyUI's block-weight loader (the Inspire pack) knows by name for SDXL.
// Those with LyC are for LoRAs with convolutions and have 21 numbers, the others 12.

/** How many blocks of each section a mask counts. */
const counted = {
  'SDXL-': { IN: 4, MID: 1, OUT: 6 },
  'SDXL-LyC-': { IN: 8, MID: 3, OUT: 9 },
} as const;

type Section = 'IN' | 'MID' | 'OUT';

/** What each kind of preset keeps, and its first number: the weight of all that lies outside the blocks. */
const kinds: { readonly [kind: string]: { readonly first: 0 | 1; readonly kept: readonly Section[] } } = {
  NONE: { first: 0, kept: [] },
  ALL: { first: 1, kept: ['IN', 'MID', 'OUT'] },
  INALL: { first: 1, kept: ['IN'] },
  MIDALL: { first: 1, kept: ['MID'] },
  OUTALL: { first: 1, kept: ['OUT'] },
};

/** By name, in the order of that pack. */
export const MASK_PRESETS: ReadonlyMap<string, string> = new Map(
  Object.entries(counted).flatMap(([prefix, counts]) =>
    Object.entries(kinds).map(([kind, { first, kept }]) => {
      const sections = Object.entries(counts).flatMap(([section, count]) =>
        Array<number>(count).fill(kept.includes(section as Section) ? 1 : 0),
      );
      return [prefix + kind, [first, ...sections].join(',')] as const;
    }),
  ),
);

const byUpperName = new Map([...MASK_PRESETS].map(([name, mask]) => [name.toUpperCase(), mask]));

/** The numbers of a preset; `undefined` where no preset has this name. Capitals do not matter. */
export function maskPreset(name: string): string | undefined {
  return byUpperName.get(name.trim().toUpperCase());
}
