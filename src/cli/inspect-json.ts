// What lorac inspect tells, for programs: one object, with everything in full.

import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import type { FileHashes } from '../runtime/safetensors/hashes.ts';
import type { Compared, Inspected, OtherFile } from './inspected.ts';

export function loraJson(first: Inspected, compared: Compared | undefined) {
  if (compared === undefined) return fileJson(first);
  const { second, comparison, difference } = compared;
  return {
    kind: 'comparison',
    first: fileJson(first),
    second: fileJson(second),
    ...comparison,
    ...(difference && { relativeDifference: { whole: finite(difference.whole), blocks: plain(difference.blocks) } }),
  };
}

export function checkpointJson(file: SafetensorsFile, what: OtherFile, hashes: FileHashes | undefined) {
  return {
    file: file.path,
    sizeBytes: file.sizeBytes,
    ...what,
    tensors: file.header.tensors.size,
    metadata: Object.fromEntries(file.header.metadata ?? []),
    ...(hashes && { hashes: { sha256: hashes.file, autoV2: hashes.file.slice(0, 10), autoV3: hashes.autoV3 } }),
  };
}

function fileJson({ report, hashes, norms, normsFrom, base, warnings }: Inspected) {
  const { path, sizeBytes, headerBytes, modules, metadata, schemes, families, dtypes, ...rest } = report;
  const stored = (key: string): string | undefined => metadata?.get(key);
  return {
    kind: 'lora',
    file: path,
    sizeBytes,
    headerBytes,
    ...rest,
    families: plain(families),
    naming: plain(schemes),
    dtypes: plain(dtypes),
    blocks: report.blocks.map((block) => ({
      ...block,
      norm: norms?.blocks.get(block.place),
      baseNorm: base?.get(block.place),
      energyShares: norms?.shares.get(block.place),
    })),
    modules: modules.map(
      ({ module, key, place, family, kind, out, columns, rank, alpha, scale, sizeBytes: size, problems }) => ({
        name: module.name,
        ...(key === module.name ? {} : { kohyaName: key }),
        block: place,
        family,
        kind,
        out,
        columns,
        rank,
        alpha: finite(alpha),
        scale: finite(scale),
        sizeBytes: size,
        norm: norms?.modules.get(module.name),
        ...(problems.length > 0 && { problems }),
      }),
    ),
    ...(hashes && {
      hashes: {
        sha256: hashes.file,
        autoV2: hashes.file.slice(0, 10),
        autoV3: hashes.autoV3,
        sshsModelHash: { stored: stored('sshs_model_hash'), true: hashes.model },
        sshsLegacyHash: { stored: stored('sshs_legacy_hash'), true: hashes.legacy },
      },
    }),
    ...(norms && {
      norms: { decomposed: norms.decomposed, measured: norms.modules.size - norms.decomposed, from: normsFrom ?? null },
      unmeasured: plain(norms.unmeasured),
      broken: norms.broken,
    }),
    metadata: metadata === undefined ? null : plain(metadata),
    warnings,
  };
}

function plain<T>(map: ReadonlyMap<string, T>): { readonly [key: string]: T } {
  return Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** JSON has no NaN: such a number is told as text. */
function finite(value: number | undefined): number | string | undefined {
  return value === undefined || Number.isFinite(value) ? value : String(value);
}
