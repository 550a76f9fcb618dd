// What metadata says about ranks and alphas, made true again for modules that were changed.

export interface Ranked {
  readonly rank: number;
  readonly alpha: number;
  /** Whether the kernel is larger than one place: trainers give such modules ranks of their own. */
  readonly isWide: boolean;
}

/** The field's word for what differs from module to module. */
const MANY = 'Dynamic';

/** Changes what is there; what a trainer did not say stays unsaid. */
export function setRanks(metadata: Map<string, string>, modules: readonly Ranked[]): void {
  const wide = modules.filter(({ isWide }) => isWide);
  const narrow = modules.filter(({ isWide }) => !isWide);
  const set = (key: string, value: string): void => {
    if (metadata.has(key)) metadata.set(key, value);
  };
  set('ss_network_dim', common(narrow.map(({ rank }) => rank)));
  set('ss_network_alpha', common(narrow.map(({ alpha }) => alpha)));
  changeNetworkArgs(metadata, (args) => {
    // LyCORIS keeps rank and alpha of convolutions among its arguments.
    if (args.has('conv_dim')) args.set('conv_dim', common(wide.map(({ rank }) => rank)));
    if (args.has('conv_alpha')) args.set('conv_alpha', common(wide.map(({ alpha }) => alpha)));
  });
}

/** The trainer's extra arguments are JSON; what is none is left alone. */
export function changeNetworkArgs(metadata: Map<string, string>, change: (args: Map<string, unknown>) => void): void {
  const text = metadata.get('ss_network_args');
  if (text === undefined) return;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return;
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return;
  const args = new Map(Object.entries(parsed));
  change(args);
  metadata.set('ss_network_args', JSON.stringify(Object.fromEntries(args)));
}

function common(numbers: readonly number[]): string {
  const [first] = numbers;
  return first !== undefined && numbers.every((number) => number === first) ? String(first) : MANY;
}
