"""`python -m lora_worker`: started by lorac, which speaks to it over stdin and stdout."""

import sys

from lora_worker.worker import main

sys.exit(main())
