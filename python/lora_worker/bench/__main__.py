"""`python -m lora_worker.bench`. Looks for what it needs before it imports any of it."""

from __future__ import annotations

import sys
import time

from lora_worker.bench.options import Options, parse, parser
from lora_worker.bench.packages import missing_packages, say_broken, say_missing
from lora_worker.devices import choose_device, prepare_environment

_STARTED = time.perf_counter()


def main() -> int:
    if "-h" in sys.argv[1:] or "--help" in sys.argv[1:]:
        parser().print_help()
        return 0
    missing = missing_packages()
    if missing:
        print(say_missing(missing), file=sys.stderr)
        return 3
    threads = prepare_environment()
    try:
        device = choose_device()
        # A wrong command line is told before seconds are spent on the rest.
        options = parse(sys.argv[1:], device.kind)
        import lora_worker.bench.measure  # noqa: F401 (all that is heavy)
    except ImportError as error:
        print(say_broken(error), file=sys.stderr)
        return 3
    return _run(options, device.name, threads)


def _run(options: Options, device_name: str, threads: int) -> int:
    import torch

    from lora_worker.bench.measure import count, measure
    from lora_worker.bench.report import counted_numbers, numbers, report, report_counted, write_json
    from lora_worker.errors import WorkerError
    from lora_worker.protocol import ProtocolError

    torch.set_num_threads(threads)
    try:
        if options.only_counts:
            found = counted_numbers(count(options))
        else:
            found = numbers(measure(options, device_name, _STARTED))
    except ProtocolError as error:
        print(f"--set: {error}", file=sys.stderr)
        return 2
    except WorkerError as error:
        print(f"{error}\n{error.hint or ''}".rstrip(), file=sys.stderr)
        return 1
    if options.json is not None:
        write_json(found, options.json)
    print(report_counted(found) if options.only_counts else report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
