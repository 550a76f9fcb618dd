// The text of a first program: what was found decides what it says, and each line that is not obvious says why.

import { writeText } from '../../parser/reading/literals.ts';
import { count } from '../../tui/units.ts';
import type { Pictures } from './pictures.ts';

export interface FirstProgram {
  readonly name: string;
  readonly pictures: Pictures;
  /** As the program writes it. */
  readonly images: string;
  /** `undefined`: none was found. */
  readonly checkpoint: string | undefined;
  readonly prompts: string | undefined;
  /** Of images without a caption. */
  readonly captionMissing: 'error' | 'folder' | 'empty';
}

/** Images in a step of the defaults: batches of 8, six of them. */
const PER_STEP = 48;
/** Of 40 images, 80 steps are enough, as the guide has it: each is seen about this often. */
const VISITS = 96;
const USUAL_STEPS = 80;
/** Fewer teach nothing; so few visits neither. */
const FEWEST_STEPS = 20;
const FEWEST_VISITS = 10;

/** The guide's 80 steps hold from 40 images to some hundreds; below, each would be seen too often, above, too seldom. */
export function stepsFor(visits: number): { readonly steps: number; readonly reason: string } {
  const each = (steps: number) => Math.round((steps * PER_STEP) / visits);
  const few = Math.max(FEWEST_STEPS, Math.ceil((VISITS * visits) / PER_STEP));
  const many = Math.ceil((FEWEST_VISITS * visits) / PER_STEP);
  const steps = few < USUAL_STEPS ? few : Math.max(USUAL_STEPS, many);
  return { steps, reason: `each image is seen about ${each(steps)} times` };
}

export function firstProgram({ name, pictures, images, checkpoint, prompts, captionMissing }: FirstProgram): string {
  const { steps, reason } = stepsFor(pictures.visits);
  const every = Math.max(1, Math.round(steps / 4));
  return `# ${name}.lora: a LoRA from ${count(pictures.count, 'image')}. Written by lorac init; change what you like.
#
#   lorac lint ${name}.lora     what is odd about the images and captions
#   lorac build ${name}.lora    make the LoRA. After a change, build again: only what depends on it runs

# The model to train on, which should be the one that you make pictures with.
${checkpointBlock(checkpoint)}

${datasetBlock(pictures, { images, captionMissing })}

train raw {
  base  = model
  data  = pictures
  steps = ${steps}  # ${reason}
  # Every so many steps the LoRA is kept: "from = raw@${every}" is an earlier one, for when the last has learned too much.
  save_every = ${every}
${sampling(prompts, every)}}

# Smaller, with what matters: thr = -3 makes it smaller still, thr = -4 keeps more.
resize small { from = raw  fro_ckpt = 1  thr = -3.55 }

save "${name}.safetensors" { from = small }

# Often one block carries the subject. "lorac analyze ${name}.safetensors CHECKPOINT" says which; then take these lines:
# chop tiny { from = small  keep = [OUT01] }
# save "${name}-tiny.safetensors" { from = tiny }
`;
}

function checkpointBlock(checkpoint: string | undefined): string {
  if (checkpoint !== undefined) return `checkpoint model { path = ${writeText(checkpoint)} }`;
  return `# No SDXL checkpoint was found. Download one (a .safetensors file of about 7 GB), and write here where it is.
checkpoint model { path = "models/sdxl.safetensors" }`;
}

function datasetBlock(
  pictures: Pictures,
  { images, captionMissing }: Pick<FirstProgram, 'images' | 'captionMissing'>,
): string {
  const { captions, style } = pictures;
  const lines: string[] = [`  images = ${writeText(images)}`];
  if (style === 'kohya')
    lines.push('  folders = kohya  # the number in a name such as 5_fox says how often its images are used');
  if (captions.count > 0) {
    const has =
      captions.count === pictures.count ? 'every image has' : `${captions.count} of ${pictures.count} images have`;
    lines.push(`  caption_extension = "${captions.extension}"  # ${has} a caption in such a file beside it`);
  } else {
    lines.push(
      '  # There are no captions. With one for each image, in a .txt file beside it, you can ask for what they name.',
    );
  }
  const reasons = {
    error: '',
    folder: 'the words of its folder, for an image without a caption',
    empty: 'no text, for an image without a caption. "error" would ask for one before training',
  };
  if (captionMissing !== 'error') lines.push(`  caption_missing = ${captionMissing}  # ${reasons[captionMissing]}`);
  if (!captions.areTags) lines.push('  shuffle_caption = false  # the captions are sentences, not tags');
  if (captions.opening !== undefined)
    lines.push(`  keep_tokens = 1  # nearly all captions begin with ${writeText(captions.opening)}: it stays in front`);
  lines.push(
    '  flip_aug = true  # mirrored as well. Write false where left and right matter: letters, a scar, a parting',
  );
  return `dataset pictures {\n${lines.join('\n')}\n}`;
}

function sampling(prompts: string | undefined, every: number): string {
  if (prompts === undefined)
    return '  # For pictures during training: sample = { every = 10  prompts = "prompts.txt" }\n';
  return `  sample = { every = ${every}  prompts = ${writeText(prompts)} }  # pictures during training, a prompt in each line\n`;
}
