"""How far pictures are from each other, as one number for each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lora_worker.job import Job
from lora_worker.pictures import distance, read_picture, same_size
from lora_worker.protocol import Fields
from lora_worker.whole_file import write_json


@dataclass(frozen=True)
class Pair:
    """`first` and `second` are paths of PNGs."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Measure:
    pairs: tuple[Pair, ...]
    output: str


def parse(fields: Mapping[str, Any]) -> Measure:
    work = Fields(dict(fields), "work")
    return Measure(
        pairs=work.records(
            "pairs", lambda pair: Pair(name=pair.text("name"), first=pair.text("first"), second=pair.text("second"))
        ),
        output=work.text("output"),
    )


def run(work: Measure, job: Job) -> dict[str, str]:
    distances = {}
    # Neighbours often share one: an ablation measures each picture against the same two.
    read = lru_cache(maxsize=4)(read_picture)
    for done, pair in enumerate(work.pairs):
        job.check_cancelled()
        job.progress(done, len(work.pairs), "pictures")
        first, second = read(pair.first), read(pair.second)
        same_size(first, pair.first, second, pair.second)
        distances[pair.name] = distance(first, second)
    job.progress(len(work.pairs), len(work.pairs), "pictures")
    write_json(work.output, distances)
    return {"distances": work.output}
