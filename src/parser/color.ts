// Colors as programs write them.

export type Rgb = readonly [red: number, green: number, blue: number];

const named: { readonly [name: string]: Rgb } = {
  white: [255, 255, 255],
  black: [0, 0, 0],
  gray: [128, 128, 128],
  grey: [128, 128, 128],
};

/** "#80f", "#8040ff" or a name: 0 to 255 each. `undefined` for what is none. */
export function parseColor(text: string): Rgb | undefined {
  const word = text.trim().toLowerCase();
  if (Object.hasOwn(named, word)) return named[word];
  const digits = /^#([0-9a-f]{3}|[0-9a-f]{6})$/.exec(word)?.[1];
  if (digits === undefined) return undefined;
  const length = digits.length / 3;
  const channel = (place: number) => {
    const part = digits.slice(place * length, (place + 1) * length);
    return Number.parseInt(length === 1 ? part + part : part, 16);
  };
  return [channel(0), channel(1), channel(2)];
}
