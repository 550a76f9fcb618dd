"""One process of a training: it learns step after step, from its start or the newest state.

Where there are several, the first also says how it goes and keeps what comes of it (`lora_worker.stages.train`); the
others are `Follower`s.
"""

from __future__ import annotations

from contextlib import ExitStack

from lora_worker.dry_step import fit
from lora_worker.job import Job
from lora_worker.models import Models
from lora_worker.network import create
from lora_worker.network_targets import chosen_targets, offered_norms, with_single_layers
from lora_worker.ranks import CHECK_EVERY, Ranks
from lora_worker.spans import span
from lora_worker.state import State
from lora_worker.steps_ahead import StepsAhead
from lora_worker.text_cache import TextCache
from lora_worker.train_request import Train
from lora_worker.training import Reading, Trainer, trained_components
from lora_worker.visits import Visits
from lora_worker.warm_start import begin_from


class Learner:
    """What learns, from its start or the newest state."""

    def __init__(self, work: Train, job: Job, models: Models, identity: str, closing: ExitStack, ranks: Ranks) -> None:
        self._work = work
        self._job = job
        self._models = models
        self._identity = identity
        self._ranks = ranks
        offered = (*models.targets(), *offered_norms(models.architecture, work.settings.network))
        settings = with_single_layers(work.settings, offered)
        targets = chosen_targets(offered, settings.network, trained_components(settings))
        self._network = create(models, targets, settings.network, seed=settings.seed)
        if work.init is not None:
            new = begin_from(self._network, work.init.lora)
            if new:
                job.log("info", f'{new} modules are not in the LoRA that "init" names, and begin as new ones.')
        self._network.attach()
        closing.callback(self._network.remove)
        self._trainer = Trainer(models, self._network, settings, lambda message: job.log("warning", message), ranks)
        closing.callback(self._trainer.close)
        self._visits = Visits(
            work,
            prediction=models.architecture.prediction,
            zero_terminal_snr=models.architecture.zero_terminal_snr,
            ranks=ranks,
        )
        self._done = self._restore()

    def _make_ready(self, closing: ExitStack) -> None:
        """At the end of the beginning."""
        self._texts = self._cached_texts()
        complete = {} if self._texts is None else {"complete": self._texts.with_text}
        last = self._work.until - 1
        self._ahead = closing.enter_context(StepsAhead(self._visits, self._models.device, last=last, **complete))

    def _fit(self) -> None:
        """Into the memory of one's own device, which is no other process' business."""
        if self._trainer.memory.room is not None:
            self._job.progress(self._done, self._work.settings.steps, "steps", "planning how it fits into memory")
            fit(self._trainer, self._work, self._models)

    def _learn(self) -> Reading:
        """One more step."""
        index = self._done
        with span("text"):
            self._make_texts_ready(index)
        with span("data"):
            micro_batches = self._ahead.micro_batches(index)
            images = self._visits.images(index)
        reading = self._trainer.step(index, micro_batches, self._before_micro_batch, images)
        self._done = index + 1
        if self._done % CHECK_EVERY == 0 or self._done == self._work.until:
            self._trainer.require_same_weights(self._done)
        return reading

    def _before_micro_batch(self, done: int, total: int) -> None:
        self._job.check_cancelled()

    def _cached_texts(self) -> TextCache | None:
        if not TextCache.is_worthwhile(self._models, self._visits, self._network):
            return None
        return TextCache(self._models, self._visits, steps=self._work.until)

    def _make_texts_ready(self, index: int) -> None:
        if self._texts is not None and self._texts.make_ready(index, self._before_each_text):
            self._job.progress(index, self._work.settings.steps, "steps", f"step {index + 1}")

    def _before_each_text(self, done: int, total: int) -> None:
        self._job.check_cancelled()
        self._job.progress(done, total, "captions", "encoding captions")

    def _restore(self) -> int:
        """How many steps are done. Only the first process knows the states."""
        state = self._ranks.of_first(self._newest_state())
        if state is None:
            return 0
        self._trainer.restore(state)
        return state.step

    def _newest_state(self) -> State | None:
        return None


class Follower(Learner):
    """Computes its share of each step, and keeps nothing."""

    def __init__(self, work: Train, job: Job, models: Models, identity: str, closing: ExitStack, ranks: Ranks) -> None:
        super().__init__(work, job, models, identity, closing, ranks)
        self._make_ready(closing)

    def run(self) -> dict[str, str]:
        # Before memory is planned, as in the first process: text encoders may leave it.
        self._make_texts_ready(self._done)
        self._fit()
        while self._done < self._work.until:
            self._learn()
        return {}
