// The parts of the name of a block, or of a node that it becomes: `small`, `small[thr=-3]`, `raw[dim=4]:latents`,
// `pony:frobenius[small]`.

export interface NodeName {
  readonly block: string;
  /** Of the sweeps that made the variant: `thr=-3`. Empty for a block without variants, and for all of them. */
  readonly values: readonly string[];
  /** `undefined` for the main node of a block. */
  readonly helper: string | undefined;
}

export function readNodeName(id: string): NodeName {
  const [, block = id, values = '', helper] = /^([^[\]:]+)(?:\[([^[\]]*)\])?(?::(.*))?$/.exec(id) ?? [];
  return { block, values: values === '' ? [] : values.split(',').map((value) => value.trim()), helper };
}

export function writeNodeName({ block, values, helper }: NodeName): string {
  const variant = values.length === 0 ? block : `${block}[${values.join(',')}]`;
  return helper === undefined ? variant : `${variant}:${helper}`;
}
