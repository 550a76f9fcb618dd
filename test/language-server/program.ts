// A program of about 300 lines, for the driver and the bench: a real one, as someone with a few characters and many
// tries would have it. `manyLines` makes it as long as one likes.

const head = `# Two characters, many tries.
# Everything is trained on the same checkpoint.

param project = "foxes"
let   rate    = 3e-4
let   small_net = locon { dim = 4  alpha = 2 }

checkpoint pony { path = "models/pony.safetensors" }

dataset hero {
  images     = "images/hero"
  repeats    = 2
  resolution = 1024x1024
  bucket     = { min = 256  max = 2048  step = 32 }
}
dataset villain extends hero { images = ["images/villain", "more/**/*.png"] }
`;

const part = (index: number) => `
# Try ${index}: what is different is written first.
train raw${index} {
  base      = pony
  data      = ${index % 2 === 0 ? 'hero' : 'villain'}
  network   = ${index % 3 === 0 ? 'small_net' : 'locon { preset = full  dim = 8  alpha = 4  conv_dim = 256  conv_alpha = 4 }'}
  optimizer = SAVEUS {
    betas          = [0.9, 0.999]
    eps            = 1e-8
    clip_lambda    = step ** 0.25
  }
  unet_lr         = rate * ${index + 1}
  text_encoder_lr = 1e-4
  lr_scheduler    = cosine { num_cycles = 0.375 }
  steps           = 80
  batch_size      = 8
  save_every      = 10
}

resize small${index} {
  from     = raw${index}@40
  fro_ckpt = 1
  thr      = -3.55
}
chop tiny${index} { from = small${index}  keep = [OUT01, "IN0*"] }
save "out/\${project}-${index}.safetensors" { from = tiny${index} }
`;

export function manyLines(lines: number): string {
  let text = head;
  for (let index = 0; text.split('\n').length < lines; index += 1) text += part(index);
  return text;
}

export const program = manyLines(290);
