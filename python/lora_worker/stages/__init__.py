"""One file per kind of work. Each has `parse(json)`, which makes its frozen dataclass, and `run(work, job)`."""
