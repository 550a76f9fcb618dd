// What the VAE makes of every image, one stored entry each: five new images encode five images.
//
// Rules:
// - An entry is known by the image's bytes, how it is cut, mirrored and encoded, and the VAE; never by a path or a name.
// - Each is published as soon as the worker has written it, so that a kill loses one at most. What was made of a file
//   that changed in the meantime is not published.
// - Images that cannot be encoded are reported all together, after the others are done.

import { readFile, writeFile } from 'node:fs/promises';
import type { Rgb } from '../../parser/color.ts';
import { type Digest, parseDigest } from '../cache/digest.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf } from '../cache/fingerprint.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { type BaseFiles, isRoleOf } from '../graph/model-folder.ts';
import { pathIn } from '../graph/paths.ts';
import type { Stage, StageContext } from '../stage.ts';
import { lockedTools } from '../worker/lock-file.ts';
import type { EncodeLatents } from '../worker/protocol.ts';
import { type Answered, askWorkerForFiles } from './ask-worker.ts';
import { checkSpace } from './check-space.ts';
import { modelFiles } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import type { ManifestImage } from './manifest.ts';

/** One line of the output `latents`, which is a list of these. */
export interface ImageLatents {
  readonly image: string;
  /** As in the manifest. Equal images can have different ones. */
  readonly mask?: string;
  readonly flipped: boolean;
  /** The stored safetensors file with `mean` and `logvar`, and `mask` where there is one. */
  readonly latents: Digest;
}

/** One image to be encoded in one way. */
interface Encoding {
  readonly image: ManifestImage;
  readonly flipped: boolean;
  readonly key: FingerprintKey;
  readonly fingerprint: Fingerprint;
}

/** Raise it when the same image should give other latents. */
const ENTRY_REVISION = 1;

export const latents: Stage = {
  name: 'latents',
  revision: 1,
  pool: 'gpu',
  runsIn: 'worker',
  tools: encodingTools,
  async run(context) {
    const encodings = await planEncodings(context);
    const found = new Map<Fingerprint, Digest>();
    for (const { fingerprint } of encodings) {
      const entry = await context.store.lookupEntry(fingerprint);
      if (entry) found.set(fingerprint, digestIn(entry.outputs));
    }
    const missing = encodings.filter(({ fingerprint }) => !found.has(fingerprint));
    const answered = missing.length > 0 ? await encode(context, missing, found) : undefined;
    const list = encodings.map(({ image, flipped, fingerprint }): ImageLatents => {
      const digest = found.get(fingerprint);
      if (digest === undefined) throw new Error(`Internal error: the worker left out "${image.digest}".`);
      const { mask } = image;
      return { image: image.digest, ...(mask === undefined ? {} : { mask }), flipped, latents: digest };
    });
    const output = pathIn(context.work, 'latents.json');
    await writeFile(output, JSON.stringify(list));
    return {
      outputs: { latents: output },
      members: list.map((line) => line.latents),
      ...(answered ? { record: answered.record } : {}),
    };
  },
};

/** Every way in which every image is used, equal images once. */
async function planEncodings(context: StageContext): Promise<readonly Encoding[]> {
  const images = JSON.parse(await readFile(inputOf(context, 'images').path, 'utf8')) as ManifestImage[];
  const vae = JSON.parse(await readFile(inputOf(context, 'vae').path, 'utf8')) as { digest: Digest };
  const { flip, ...reading } = readAttributes(context);
  const encodings = new Map<Fingerprint, Encoding>();
  for (const image of images) {
    for (const flipped of flip ? [false, true] : [false]) {
      const { resized, crop, bucket } = image;
      const { mask } = image;
      const isAlpha = mask === 'alpha';
      const key: FingerprintKey = {
        stage: 'image-latents',
        revision: ENTRY_REVISION,
        tools: encodingTools(),
        attributes: { ...reading, resized, crop, bucket, flipped, ...(isAlpha && { mask }) },
        inputs: {
          image: digestOrThrow(image.digest),
          vae: vae.digest,
          ...(mask === undefined || isAlpha ? {} : { mask: digestOrThrow(mask) }),
        },
      };
      const fingerprint = fingerprintOf(key);
      encodings.set(fingerprint, { image, flipped, key, fingerprint });
    }
  }
  return [...encodings.values()];
}

/** Encodes what is missing and adds it to `found`. */
async function encode(
  context: StageContext,
  missing: readonly Encoding[],
  found: Map<Fingerprint, Digest>,
): Promise<Answered> {
  await checkSpace(context, {
    doing: 'Encoding the images',
    parts: [{ what: `${missing.length} encoded images`, bytes: missing.reduce((sum, each) => sum + sizeOf(each), 0) }],
  });
  const byName = new Map(missing.map((encoding) => [encoding.fingerprint as string, encoding]));
  return askWorkerForFiles(context, request(context, missing), async (name, path) => {
    const encoding = byName.get(name);
    if (encoding === undefined)
      throw new Error(`Internal error: the worker encoded "${name}", which nobody asked for.`);
    await context.requireUnchanged([...vaeFiles(context), ...filesOf(context, encoding.image)]);
    const entry = await context.store.publishEntry(encoding.fingerprint, encoding.key, { latents: path });
    found.set(encoding.fingerprint, digestIn(entry.outputs));
  });
}

function request(context: StageContext, missing: readonly Encoding[]): EncodeLatents {
  return {
    op: 'encode_latents',
    checkpoint: modelFiles(readSettings(context).base),
    ...readingOf(context),
    items: missing.map(({ image, flipped, fingerprint }) => ({
      name: fingerprint,
      image: pathOf(context, image.digest),
      ...maskOf(context, image),
      resized: image.resized,
      crop: image.crop,
      bucket: image.bucket,
      flip: flipped,
      output: pathIn(context.work, `${fingerprint}.safetensors`),
    })),
  };
}

function readingOf(context: StageContext) {
  const { vae_precision, exif, transparency = [255, 255, 255], resize_filter = 'lanczos' } = readAttributes(context);
  return {
    vae_precision,
    exif: exif === 'ignored' ? 'ignore' : 'apply',
    transparency: transparency === 'ignore' ? null : transparency,
    resize_filter,
  } as const;
}

function filesOf(context: StageContext, { digest, mask }: ManifestImage): readonly AbsolutePath[] {
  return [digest, ...(mask === undefined || mask === 'alpha' ? [] : [mask])].map((each) => pathOf(context, each));
}

function maskOf(context: StageContext, { mask }: ManifestImage): Pick<EncodeLatents['items'][number], 'mask'> {
  if (mask === undefined) return {};
  return { mask: mask === 'alpha' ? { kind: 'alpha' } : { kind: 'file', path: pathOf(context, mask) } };
}

/** Of an image or a mask, by its digest. */
function pathOf(context: StageContext, digest: string): AbsolutePath {
  const path = context.imagePaths.get(digestOrThrow(digest));
  if (path === undefined) throw new Error(`Internal error: nobody knows where the image "${digest}" lies.`);
  return path;
}

/** Mean and log-variance, four channels of F32 each, a mask, and a header. */
function sizeOf({ image: { bucket, mask } }: Encoding): number {
  const channels = 2 * 4 + (mask === undefined ? 0 : 1);
  return channels * 4 * (bucket[0] / 8) * (bucket[1] / 8) + 512;
}

function encodingTools() {
  return lockedTools(['torch', 'diffusers', 'pillow']);
}

function digestIn(outputs: { readonly [output: string]: { readonly digest: Digest } }): Digest {
  const latents = outputs.latents;
  if (latents === undefined) throw new Error('Internal error: a stored image has no latents.');
  return latents.digest;
}

function digestOrThrow(text: string): Digest {
  const digest = parseDigest(text);
  if (digest === undefined) throw new Error(`Internal error: "${text}" is no digest.`);
  return digest;
}

function readAttributes({ node }: StageContext) {
  return node.attributes as unknown as {
    readonly flip: boolean;
    readonly vae_precision: EncodeLatents['vae_precision'];
    readonly exif: 'upright' | 'ignored';
    readonly transparency?: Rgb | 'ignore';
    readonly resize_filter?: EncodeLatents['resize_filter'];
  };
}

function readSettings({ node }: StageContext) {
  return node.settings as unknown as { readonly base: BaseFiles };
}

/** What of the base the latents are made by. */
function vaeFiles(context: StageContext): readonly AbsolutePath[] {
  const { base } = readSettings(context);
  return Object.entries(base).flatMap(([role, path]) => (role === 'checkpoint' || isRoleOf('vae', role) ? path : []));
}
