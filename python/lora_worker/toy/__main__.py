"""`python -m lora_worker.toy OUT.safetensors` writes a toy SDXL checkpoint."""

from __future__ import annotations

import argparse
import os

from lora_worker.toy.checkpoint import SIZES, write_toy_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_worker.toy", description=__doc__)
    parser.add_argument("output", help="the checkpoint to write")
    parser.add_argument("--size", choices=sorted(SIZES), default="quickstart")
    arguments = parser.parse_args()
    os.makedirs(os.path.dirname(arguments.output) or ".", exist_ok=True)
    write_toy_checkpoint(arguments.output, arguments.size)


if __name__ == "__main__":
    main()
