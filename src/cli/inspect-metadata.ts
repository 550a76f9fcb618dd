// Metadata of a LoRA for people: what trainers store as JSON is told in words. Every word comes from a file, and whoever
// prints it cleans it.

/** Longer values are told by their length alone: nobody waits for a file to be read aloud. */
const LONGEST = 4 * 2 ** 20;
const SHOWN = 100;

export function metadataValue(key: string, value: string): string {
  if (/_at$/.test(key) && /^\d{9,11}(?:\.\d+)?$/.test(value)) {
    return `${value} (${new Date(Number(value) * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC)`;
  }
  const told = value.length > LONGEST ? undefined : inWords(key, value);
  if (told !== undefined) return cut(told, 2 * SHOWN);
  return cut(value, SHOWN) + (value.length > SHOWN ? ` (${value.length} characters)` : '');
}

function cut(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}

/** `undefined` where the value is not what the key is known for. */
function inWords(key: string, text: string): string | undefined {
  const teller = TELLERS[key];
  const value = teller && parsed(text);
  return value === undefined ? undefined : teller?.(value);
}

type Teller = (value: object) => string | undefined;

const TELLERS: { readonly [key: string]: Teller } = {
  ss_tag_frequency: tags,
  ss_dataset_dirs: folders,
  ss_reg_dataset_dirs: folders,
  ss_bucket_info: buckets,
  ss_network_args: settings,
  'lorac.history': history,
};

function parsed(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Folder → tag → how often: the most frequent of all folders together. */
function tags(value: object): string | undefined {
  const counts = new Map<string, number>();
  for (const folder of Object.values(value)) {
    if (!isRecord(folder)) return undefined;
    for (const [tag, count] of Object.entries(folder)) {
      if (typeof count !== 'number') return undefined;
      counts.set(tag.trim(), (counts.get(tag.trim()) ?? 0) + count);
    }
  }
  const frequent = [...counts].sort(([, a], [, b]) => b - a).map(([tag, count]) => `${tag} ${count}`);
  return `${counted(counts.size, 'tag')}: ${few(frequent, 8)}`;
}

/** Folder → how many images, and how often each was repeated. */
function folders(value: object): string | undefined {
  const told = Object.entries(value).map(([name, facts]) => {
    const { n_repeats: repeats, img_count: images } = isRecord(facts) ? facts : {};
    return typeof images === 'number' && typeof repeats === 'number'
      ? `${name}: ${counted(images, 'image')} × ${repeats}`
      : undefined;
  });
  return told.includes(undefined) ? undefined : few(told, 4);
}

function buckets(value: object): string | undefined {
  const list = 'buckets' in value && isRecord(value.buckets) ? Object.values(value.buckets) : undefined;
  const told = list?.map((bucket) => {
    const { resolution, count } = isRecord(bucket) ? bucket : {};
    return Array.isArray(resolution) && typeof count === 'number'
      ? ([resolution.join('x'), count] as const)
      : undefined;
  });
  if (told === undefined || told.length === 0 || told.includes(undefined)) return undefined;
  const full = told.flatMap((one) => (one === undefined ? [] : [one])).sort(([, a], [, b]) => b - a);
  return `${counted(full.length, 'bucket')}: ${few(
    full.map(([size, count]) => `${size} ${count}`),
    6,
  )}`;
}

function settings(value: object): string | undefined {
  if (!isRecord(value)) return undefined;
  const pairs = Object.entries(value).filter(([, setting]) => setting !== null);
  return pairs.some(([, setting]) => typeof setting === 'object')
    ? undefined
    : pairs.map(([name, setting]) => `${name}=${setting}`).join(', ');
}

/** What was done to the file since, the oldest first. */
function history(value: object): string | undefined {
  if (!Array.isArray(value) || !value.every(isRecord)) return undefined;
  const steps = value.map(({ stage, ...details }) => {
    const told = Object.values(details).filter(isRecord).map(settings);
    return [stage, ...told.filter((words) => words !== undefined && words !== '')].join(' ');
  });
  return steps.join('; then ');
}

function few(words: readonly (string | undefined)[], shown: number): string {
  const more = words.length - shown;
  return words.slice(0, shown).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
