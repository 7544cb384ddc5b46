"""The training loop: batches → gradients → optimizer steps, with validation, checkpoints and a way out of every accident.

It sees a module with `.loss(batch)` and an iterable of batches, and knows neither model nor data. A checkpoint is written before each
validation, so that whatever ends the run in the middle of one costs nothing but that validation.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

from voxkit.batch import Batch
from voxkit.checkpoint.format import read_meta
from voxkit.train import distributed, persistence, report, step, validation
from voxkit.train.budget import Budget
from voxkit.train.interrupt import Interrupt, Interrupted
from voxkit.train.lock import locked
from voxkit.train.logging import RunLog
from voxkit.train.mirror import Mirror
from voxkit.train.parts import FitResult, RunParts
from voxkit.train.remedies import Diverged


class Trainer(RunParts):
    """Trains a model; with several processes, one Trainer in each. Arguments as for `RunParts`."""

    def fit(self) -> FitResult:
        """Train to the end, the budget or an interruption; a run that is there already is continued.

        Raises:
            ValueError: another process trains there, or the run there is of another model or vocabulary. NonFiniteLoss, Diverged: where the
                remedies are off or used up.
        """
        with contextlib.ExitStack() as stack:
            if self.world.main:
                stack.enter_context(locked(self.run_dir))
            self.log = RunLog(self.run_dir, self.world.main)
            stack.callback(self.log.close)
            self.mirror = None
            if self.config.mirror and self.world.main:
                self.mirror = Mirror(self.config.mirror, self.run_dir, self.config.mirror_every)
                stack.callback(self.mirror.close)
            self.interrupt = stack.enter_context(Interrupt())
            resumed = persistence.resume(self)
            self.budget = Budget(self.run_dir / "budget.json", self.config.max_hours, self.config.price_per_hour)
            if resumed:
                self.budget.at_least(read_meta(self.root / resumed).get("hours", 0.0))
            self.log.start(self.state.step, self.tensorboard)
            report.announce(self, resumed)
            if not resumed and self.config.remedies.halve_on_divergence:
                persistence.save(self)  # something to go back to
            self.started_at = self.state.step
            self.mark = (time.monotonic(), self.state.seconds)
            reason = self._measure() if self.state.unmeasured else ""
            reason = reason or self._over() or ("budget" if distributed.broadcast(self.world, self.budget.spent) else "")
            self.model.train()
            while not reason:
                try:
                    reason = self._epoch() or self._over()
                except Diverged as error:
                    persistence.go_back(self, error)
            return self._finish(reason)

    def _epoch(self) -> str:
        """The rest of the current epoch; why the run is over, or nothing."""
        self.model.train()
        for group in self._groups():
            values, stop = step.step(self, group)
            if values is not None:
                stop = self._after_step(values, stop) or self._over()
            if stop:
                return stop
        if self.world.size == 1 and self.interrupt.asked:
            return "interrupted"
        if not self.state.batches:
            raise ValueError("the loader gave no batch in a whole epoch: is every utterance longer than data.max_duration, or left out?")
        self.state.epoch += 1
        self.state.batches = 0
        self.loader.set_epoch(self.state.epoch)
        self.schedule.step_epoch(self.state.epoch)
        if not self.config.validate_every:
            return self._measure()
        persistence.save(self)
        return ""

    def _groups(self) -> Iterator[list[tuple[Batch, float]]]:
        """The batches of each optimizer step with their weight. A process that has run out repeats a batch at weight 0, so that
        all take the same number of steps."""
        batches = iter(self.loader)
        while not (self.world.size == 1 and self.interrupt.asked):
            group = list(itertools.islice(batches, self.config.accumulate))
            if group and self.world.size > 1:
                self.spare = group[-1]
            needed = self.world.size > 1 and self.spare is None
            longest, lacking = distributed.reduce(self.world, [len(group), float(needed)], "max")
            if not longest:
                return
            if lacking:
                spares = [spare for spare in distributed.gather(self.world, self.spare) if spare is not None]
                self.spare = self.spare or spares[0]
            self.state.batches += int(longest)
            yield [(batch, 1.0) for batch in group] + [(self.spare, 0.0)] * (int(longest) - len(group))  # type: ignore[list-item]

    def _after_step(self, values: dict[str, float], stop: str) -> str:
        """Log, save and validate where it is time to; who is to stop does not validate any more → why to stop."""
        state, config = self.state, self.config
        if self.watch.update(values["loss"]):
            raise Diverged(f"the loss diverged at step {state.step}: {self.watch}")
        for name, value in values.items():
            state.window[name] = state.window.get(name, 0.0) + value
        state.window["steps"] = state.window.get("steps", 0) + 1
        if state.step % config.log_every == 0:
            report.window(self)
        self.log.progress(state.step, self.total_steps, f"epoch {state.epoch} loss {report.short(values['loss'])}, {self.budget}")
        if self.on_step is not None:
            self.on_step(state.step, values)
        due = bool(config.validate_every) and state.step % config.validate_every == 0
        if stop:
            state.unmeasured = due and self.validate is not None
        elif due:
            return self._measure()
        elif config.checkpoint_every and state.step % config.checkpoint_every == 0:
            persistence.save(self)
        return stop

    def _measure(self) -> str:
        """Save, validate, and note in the checkpoint what was measured → "interrupted" where a signal broke the validation off."""
        self.state.unmeasured = self.validate is not None
        persistence.save(self)
        if any(distributed.gather(self.world, self.interrupt.asked)):
            return "interrupted"
        try:
            with self.interrupt.at_once():
                validation.validate(self)
        except (Interrupted, RuntimeError):  # another process has left the validation, and this one lost the connection
            if not self.interrupt.asked:
                raise
            return "interrupted"
        self.state.unmeasured = False
        persistence.save(self)
        return ""

    def _over(self) -> str:
        state, config = self.state, self.config
        if config.patience and state.since_best >= config.patience:
            return "early_stop"
        if config.max_steps and state.step >= config.max_steps or state.epoch >= config.epochs:
            return "finished"
        return ""

    def _finish(self, reason: str) -> FitResult:
        """The last validation and checkpoint, the average of the best, and the last line."""
        state = self.state
        if (complete := reason in ("finished", "early_stop")) and state.window.get("steps"):
            report.window(self)
        if complete and not (state.history and state.history[-1]["step"] == state.step):
            reason = self._measure() or reason
        persistence.save(self, final=True)
        if self.mirror is not None:
            self.mirror.close()
            persistence.tidy(self)
        averaged = None
        if reason in ("finished", "early_stop") and self.config.average.best:
            try:
                with self.interrupt.at_once():
                    averaged = validation.average_best(self)
            except Interrupted:
                reason = "interrupted"
        result = FitResult(reason, state.step, state.epoch, dict(state.history[-1]) if state.history else {}, state.best,
                           self.last_checkpoint, averaged, self.budget.hours, self.budget.cost, state.skipped)
        report.last_line(self, result)
        return result
