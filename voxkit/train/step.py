"""One optimiser step: gradients over the accumulated batches of all processes, as if they were one large batch."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from voxkit.batch import Batch
from voxkit.precision import autocast
from voxkit.train import distributed
from voxkit.train.remedies import Diverged, NonFiniteLoss, find_culprits, is_out_of_memory, oom_advice, split
from voxkit.train.state import undisturbed_random_state

if TYPE_CHECKING:
    from voxkit.train.loop import Trainer


@dataclass
class Sums:
    """Of several batches: weight; sums of the total and of the parts, each times the weight; metrics as (sum, count)."""

    weight: float = 0.0
    total: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, losses: Any, share: float = 1.0) -> None:
        """A model's `Losses` of one more batch, which counts by its share."""
        weight = share * float(losses.weight)
        self.weight += weight
        self.total += weight * float(losses.total.detach())
        for name, value in losses.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + weight * float(value)
        for name, (value, count) in losses.metrics.items():
            before = self.metrics.get(name, (0.0, 0.0))
            self.metrics[name] = (before[0] + share * float(value), before[1] + share * float(count))

    def means(self) -> dict[str, float]:
        """Of parts and metrics."""
        return {**{name: value / max(self.weight, 1e-9) for name, value in self.parts.items()},
                **{name: value / max(count, 1e-9) for name, (value, count) in self.metrics.items()}}


def step(t: Trainer, group: list[tuple[Batch, float]]) -> tuple[dict[str, float] | None, str]:
    """One optimiser step → its losses (None: it was dropped), and why to stop (empty: go on)."""
    set_step = getattr(t.model, "set_step", None)
    if set_step is not None:
        set_step(t.state.step)
    sums, bad = _backward(t, group)
    totals = [sums.weight, sums.total, sum(batch.seconds * share for batch, share in group), float(bool(bad)),
              float(t.interrupt.asked), float(t.world.main and t.budget.spent)]
    weight, loss, seconds, any_bad, asked, spent = distributed.reduce(t.world, totals)
    stop = "interrupted" if asked else "budget" if spent else ""
    t.state.seconds += seconds
    if any_bad:
        _drop(t, bad, "loss")
        return None, stop
    t.scaler.unscale_(t.optimiser)
    params = [p for g in t.optimiser.param_groups for p in g["params"] if p.grad is not None]
    grads = [p.grad for p in params]
    torch._foreach_mul_(grads, t.world.size / max(weight, 1e-9))
    total = nn.utils.get_total_norm(grads)
    norm = float(total)
    if t.config.clip_grad and norm + 1e-6 > t.config.clip_grad:  # otherwise clipping would multiply every gradient by 1
        nn.utils.clip_grads_with_norm_(params, t.config.clip_grad, total)
    finite = norm < float("inf")
    if not finite and not t.scaler.is_enabled():
        _drop(t, [batch for batch, share in group if share], "gradient")
        return None, stop
    t.scaler.step(t.optimiser)
    t.scaler.update()
    if not finite:  # fp16: the scaler has left the step out and halves its scale
        t.state.skipped_in_a_row += 1
        if t.state.skipped_in_a_row >= t.config.remedies.non_finite_limit:
            raise Diverged(f"the gradient in float16 is not finite at step {t.state.step}, however little the loss is scaled "
                           f"({t.scaler.get_scale():.2g}), and so it was for {t.state.skipped_in_a_row} steps in a row; "
                           "train.precision=bf16 or fp32 has no such limit")
        return None, stop
    t.schedule.step()
    t.state.step += 1
    t.state.skipped_in_a_row = 0
    if t.average is not None:
        t.average.update(t.model, t.state.step)
    return {**sums.means(), "loss": loss / max(weight, 1e-9), "grad_norm": norm}, stop


def _backward(t: Trainer, group: list[tuple[Batch, float]]) -> tuple[Sums, list[Batch]]:
    """Gradients of the sum of weight · loss over a group → (sums, batches whose loss is not finite)."""
    while True:
        failed = None
        try:
            return _try_backward(t, [(part, share) for batch, share in group for part in split(batch, t.state.pieces)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error).splitlines()[0]  # and let go of the error, whose frames hold tensors
        _shrink(t, group, failed)


def _try_backward(t: Trainer, parts: list[tuple[Batch, float]]) -> tuple[Sums, list[Batch]]:
    t.optimiser.zero_grad(set_to_none=True)
    sums, bad = Sums(), []
    for i, (batch, share) in enumerate(parts):
        hold = t.world.size > 1 and i < len(parts) - 1
        with t.net.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
            batch = batch.to(t.world.device)
            with _autocast(t), contextlib.nullcontext() if share else undisturbed_random_state():
                losses = t.net(batch)
            t.scaler.scale(losses.total * (share * float(losses.weight))).backward()
        if not abs(float(losses.total.detach())) < float("inf"):
            bad.append(batch)
        sums.add(losses, share)
    return sums, bad


def _drop(t: Trainer, bad: list[Batch], what: str) -> None:
    """A step whose loss or gradient is not finite: name the utterances and count, or stop."""
    state, remedies = t.state, t.config.remedies
    t.optimiser.zero_grad(set_to_none=True)
    with _autocast(t):
        ids = [id for batch in bad for id in (find_culprits(t.model, batch) if what == "loss" else batch.ids)]
    ids = [id for part in distributed.gather(t.world, ids) for id in part]
    state.skipped += 1
    state.skipped_in_a_row += 1
    named = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    text = f"the {what} is not finite at step {state.step} for {named}"
    if remedies.non_finite == "stop":
        raise NonFiniteLoss(f"{text}; mend or leave out these utterances, lower train.optimiser.lr, or set train.remedies.non_finite=skip")
    if state.skipped_in_a_row >= remedies.non_finite_limit:
        raise Diverged(f"{text}, and so it was for {state.skipped_in_a_row} steps in a row")
    t.log.event(state.step, state.epoch, f"{text}: step skipped ({state.skipped} so far)", ids=ids)


def _shrink(t: Trainer, group: list[tuple[Batch, float]], failed: str) -> None:
    """Cut every batch into twice as many parts from now on."""
    largest = max((batch for batch, _ in group), key=lambda batch: batch.input.values.numel())
    state = t.state
    if t.world.size > 1 or state.pieces >= 2 ** t.config.remedies.shrink_on_oom or state.pieces >= largest.size:
        raise ValueError(oom_advice(largest) + f" ({failed})")
    t.optimiser.zero_grad(set_to_none=True)
    gc.collect()
    if t.world.device.type == "cuda":
        torch.cuda.empty_cache()
    state.pieces *= 2
    t.log.event(state.step, state.epoch, f"{oom_advice(largest)}. Going on with batches cut into {state.pieces}, accumulated")


def _autocast(t: Trainer) -> torch.autocast:
    return autocast(t.dtype, t.world.device)
