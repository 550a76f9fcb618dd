// Every stage there is. The graph is built with this list, so adding a stage touches this folder alone.

import type { Stages } from '../graph/build.ts';
import { ablation } from './ablation.ts';
import { analyze } from './analyze.ts';
import { checkpoint } from './checkpoint.ts';
import { chop } from './chop.ts';
import { decompose } from './decompose.ts';
import { ema } from './ema.ts';
import { latents } from './latents.ts';
import { lora } from './lora.ts';
import { manifest } from './manifest.ts';
import { merge } from './merge.ts';
import { preview } from './preview.ts';
import { frobenius, projections, spectral } from './reference-numbers.ts';
import { resize } from './resize.ts';
import { run } from './run.ts';
import { samples } from './samples.ts';
import { save } from './save.ts';
import { saveFile, savePicture } from './save-as-it-is.ts';
import { train } from './train.ts';

export const stages: Stages = {
  checkpoint,
  manifest,
  latents,
  train,
  samples,
  ema,
  decompose,
  frobenius,
  spectral,
  projections,
  resize,
  chop,
  save,
  lora,
  merge,
  preview,
  ablation,
  analyze,
  savePicture,
  run,
  saveFile,
};
