"""What training costs on this device: `python -m lora_worker.bench`."""

DESCRIPTION = """\
Trains the guide's recipe on a full-size SDXL with random weights, through the same code as every training, and tells
what it costs: 80 steps of 6 x 8 images of 1024 x 1024 with SAVEUS, a LoRA saved after every step, two pictures of 30
passes rendered every ten. Needs no Node, no checkpoint and no network. Without a GPU it trains a toy, in less than two
minutes."""

EXAMPLES = """\
examples, in the folder that holds lora_worker (or with PYTHONPATH=python before them):
  python -m lora_worker.bench --json numbers.json        the recipe on a GPU, the toy on a CPU
  python -m lora_worker.bench --steps 6 --no-samples     SDXL for a few steps: enough for seconds per step
  python -m lora_worker.bench --steps 12 --no-samples --set compile=true
  python -m lora_worker.bench --steps 3 --no-samples --batch-size 1 --set fp8_base=on --set gradient_checkpointing=on
  python -m lora_worker.bench --steps 4 --no-samples --trace trace.json
  python -m lora_worker.bench --recipe --count           what the recipe computes, counted in seconds on any machine
  CUDA_VISIBLE_DEVICES= python -m lora_worker.bench      the toy on a machine that has a GPU

what the rows say:
  seconds per step  of the training itself; saving and pictures have rows of their own
  MFU               arithmetic that the steps need at least, over what a product of two large matrices reaches
  floor             the seconds of the whole run if all of it ran as fast as that product
  parts             where the seconds went, by events on a GPU's own clock; the rest has no name
  kernels           of one optimizer step, beside a loop over single parameters; without a GPU they are worked out

The packages of python/requirements.lock have to be there. What is missing is named before anything is done."""
