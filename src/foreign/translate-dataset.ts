// Images and captions: folders by their names, or folders one by one with options of their own.

import { bucket as bucketRecord, dataset } from '../parser/schema/dataset.ts';
import { defaultsOf } from '../parser/schema/types.ts';
import { Asked } from './asked.ts';
import { type DraftBlock, fitted, isWritable, put, rowOf, type Values } from './draft.ts';
import { asNumber, asNumbers, type Plain } from './plain.ts';
import type { Recipe, Subset, Surroundings } from './recipe.ts';

export interface TranslatedImages {
  readonly datasets: readonly DraftBlock[];
  readonly regularization: string | undefined;
  /** Visits in an epoch, `undefined` where the images are not at hand. */
  readonly visits: number | undefined;
}

/** What each dataset reads by itself. */
const isAboutImages = (name: string) =>
  special.has(name) ||
  /^(train_data_dir|reg_data_dir|class_tokens|min_bucket_reso|max_bucket_reso|bucket_reso_steps)$/.test(name) ||
  rowOf(dataset, name) !== undefined;

/** Options of a dataset that the checker knows under a name of their own, and those that stand for several. */
const special = new Set([
  'caption_extension',
  'caption_extention',
  'resolution',
  'num_repeats',
  'dataset_repeats',
  'enable_bucket',
  'bucket_no_upscale',
]);

export function translateImages(recipe: Recipe, asked: Asked, around: Surroundings): TranslatedImages {
  if (recipe.subsets.length === 0) return fromFolders(recipe, asked, around);
  for (const name of asked.rest) if (isAboutImages(name)) asked.get(name);
  const learned = groupsOf(recipe.subsets.filter((subset) => !subset.isRegularization));
  const kept = groupsOf(recipe.subsets.filter((subset) => subset.isRegularization));
  const count = (groups: readonly Group[]) =>
    sumOf(groups.slice(0, 1).flatMap(({ subsets }) => subsets.map((subset) => visitsOf(subset, around))));
  const blocks = [
    ...learned.map((group, at) => blockOf(at === 0 ? 'pictures' : `pictures_${at + 1}`, group, recipe, asked)),
    ...kept.slice(0, 1).map((group) => blockOf('known', group, recipe, asked)),
  ];
  if (learned.length > 1) {
    const names = blocks.slice(1, learned.length).map(({ name }) => name);
    const reason = `A training has one dataset here, with one set of options: it learns "pictures". Put the images of ${names.join(', ')} into its folders, or into folders such as 5_fox with folders = kohya.`;
    asked.leaveValue({ name: 'datasets', value: `${learned.length} with different options`, reason });
  }
  if (kept.length > 1) {
    asked.leaveValue({ name: 'is_reg', value: `${kept.length} with different options`, reason: 'The first is taken.' });
  }
  return {
    datasets: blocks,
    regularization: kept.length === 0 ? undefined : 'known',
    visits: withRegularization(count(learned), kept.length > 0),
  };
}

/** `train_data_dir`: folders in it whose names begin with how often they are used. */
function fromFolders(recipe: Recipe, asked: Asked, around: Surroundings): TranslatedImages {
  const folder = asked.text('train_data_dir');
  const kept = asked.text('reg_data_dir');
  if (asNumber(asked.get('dataset_repeats')) !== 1) {
    asked.leave(
      'dataset_repeats',
      'sd-scripts reads it for folders without a number alone. Names of folders say how often their images are used.',
    );
  }
  const block = (name: string, path: string): DraftBlock => {
    const values: Values = new Map();
    put(values, 'images', path);
    put(values, 'folders', 'kohya', `as ${recipe.trainer} has it: images count in folders such as 5_fox`);
    put(values, 'caption_missing', 'folder', 'without this line an image without a caption is an error');
    placeOptions(values, asked);
    return { kind: 'dataset', name, values };
  };
  return {
    datasets: [
      block('pictures', pathOr(folder, 'images')),
      ...(kept === undefined ? [] : [block('known', pathOr(kept, 'known'))]),
    ],
    regularization: kept === undefined ? undefined : 'known',
    visits: withRegularization(
      folder === undefined ? undefined : around.countImages(folder, 'kohya'),
      kept !== undefined,
    ),
  };
}

const pathOr = (path: string | undefined, other: string) => (path !== undefined && isWritable(path) ? path : other);

/** As many images of what the base knows as of what is learned. */
const withRegularization = (visits: number | undefined, isDoubled: boolean) =>
  visits && (isDoubled ? visits * 2 : visits);

interface Group {
  readonly subsets: readonly Subset[];
  readonly options: ReadonlyMap<string, Plain>;
}

/** Folders with equal options are one dataset. */
function groupsOf(subsets: readonly Subset[]): readonly Group[] {
  const groups = new Map<string, Subset[]>();
  for (const subset of subsets) {
    const key = JSON.stringify([...subset.options].toSorted(([a], [b]) => (a < b ? -1 : 1)));
    groups.set(key, [...(groups.get(key) ?? []), subset]);
  }
  return [...groups.values()].map((members) => ({ subsets: members, options: (members[0] as Subset).options }));
}

function blockOf(name: string, group: Group, recipe: Recipe, main: Asked): DraftBlock {
  const own = new Asked(new Map([...recipe.options, ...group.options]), recipe.defaults);
  const values: Values = new Map();
  const paths = group.subsets.map(({ images }) => pathOr(images, 'images')).map(imagesIn);
  put(values, 'images', paths.length === 1 ? paths[0] : paths, 'the images in it, and none in folders below');
  put(values, 'caption_missing', 'empty', 'without this line an image without a caption is an error');
  const repeats = own.number('num_repeats') ?? own.number('dataset_repeats');
  if (repeats !== undefined && fitted(dataset.repeats.type, repeats) !== undefined) put(values, 'repeats', repeats);
  if (own.text('class_tokens') !== undefined) {
    own.leave(
      'class_tokens',
      'It is the caption of images without one. Write it into caption files, or name the folder 1_… with folders = kohya and caption_missing = folder.',
    );
  }
  placeOptions(values, own);
  for (const one of own.left) if (!main.left.some(({ name: known }) => known === one.name)) main.leaveValue(one);
  return { kind: 'dataset', name, values };
}

/** The images right in a folder. */
const imagesIn = (folder: string) => `${folder.replaceAll('\\', '/').replace(/\/+$/, '')}/*`;

function visitsOf({ images, options }: Subset, around: Surroundings): number | undefined {
  const found = around.countImages(images, 'flat');
  return found && found * (asNumber(options.get('num_repeats')) ?? 1);
}

const sumOf = (counts: readonly (number | undefined)[]) =>
  counts.length === 0 || counts.some((one) => one === undefined)
    ? undefined
    : counts.reduce<number>((sum, one) => sum + (one as number), 0);

/** What the table of datasets has a row for, and what needs a closer look. */
function placeOptions(values: Values, asked: Asked): void {
  const extension = asked.text('caption_extention') ?? asked.text('caption_extension');
  if (extension !== undefined && isWritable(extension))
    put(values, 'caption_extension', extension.startsWith('.') ? extension : `.${extension}`);
  placeShapes(values, asked);
  for (const name of asked.rest) {
    const [field, row] = rowOf(dataset, name) ?? [];
    if (field === undefined || row === undefined || special.has(name)) continue;
    const fitting = fitted(row.type, asked.get(name) as Plain);
    if (fitting !== undefined) put(values, field, fitting);
    else if (asked.isGiven(name)) asked.leave(name, `${field} cannot be that here.`);
  }
}

const { min, max } = defaultsOf(bucketRecord.fields);
const shapeless = { min, max, upscale: false };

/** Resolution and buckets. Without buckets, sd-scripts crops everything to one shape. */
function placeShapes(values: Values, asked: Asked): void {
  const sides = asNumbers(asked.get('resolution'));
  const [width, height = width] = sides ?? [];
  const fits = [width, height].every(
    (side) => side !== undefined && Number.isInteger(side) && side >= 64 && side <= 4096,
  );
  if (fits) put(values, 'resolution', { width, height });
  else asked.leave('resolution', 'It needs a size from 64x64 to 4096x4096. 1024x1024 stands in its place.');

  const bucket: { [side: string]: unknown } = { ...defaultsOf(bucketRecord.fields) };
  for (const name of ['min_bucket_reso', 'max_bucket_reso', 'bucket_reso_steps']) {
    const value = asked.number(name);
    const [field, row] = rowOf(bucketRecord.fields, name) ?? [];
    if (value === undefined || field === undefined || row === undefined) continue;
    const fitting = fitted(row.type, value);
    if (fitting === undefined)
      asked.leave(name, `Sides of buckets are multiples of ${field === 'step' ? 32 : 8} here.`);
    else bucket[field] = fitting;
  }
  // As sd-scripts has it then: its bounds mean nothing.
  if (asked.boolean('bucket_no_upscale')) Object.assign(bucket, shapeless);
  const isOneShape = !asked.boolean('enable_bucket') && asked.isGiven('resolution') && fits;
  if (isOneShape && width === height && (width as number) % 32 === 0) {
    const square = { min: width, max: width, step: 32 };
    put(values, 'bucket', square, 'without enable_bucket, everything is cropped to a square');
    return;
  }
  put(values, 'bucket', bucket);
  if (!isOneShape) return;
  const reason = 'Without it every image is cropped to one shape. Here, shapes of about the same area are used.';
  asked.leaveValue({ name: 'enable_bucket', value: false, reason });
}
