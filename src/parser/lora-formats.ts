// The ways to name what is in a LoRA file that lorac writes. It reads all of them, and some more.

export const LORA_FORMATS = ['kohya', 'kohya-diffusers', 'diffusers', 'comfyui', 'lycoris'] as const;

export type LoraFormat = (typeof LORA_FORMATS)[number];
