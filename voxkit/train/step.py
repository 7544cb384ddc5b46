"""One optimizer step: gradients over the accumulated batches of all processes, as if they were one large batch."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from voxkit.batch import Batch, Counts
from voxkit.precision import autocast
from voxkit.train import distributed
from voxkit.train.parts import RunParts
from voxkit.train.remedies import Diverged, NonFiniteLoss, find_culprits, is_out_of_memory, oom_advice, split
from voxkit.train.state import undisturbed_random_state


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


def step(run: RunParts, group: list[tuple[Batch, float]]) -> tuple[dict[str, float] | None, str]:
    """One optimizer step → its losses (None: it was dropped), and why to stop (empty: go on)."""
    set_step = getattr(run.model, "set_step", None)
    if set_step is not None:
        set_step(run.state.step)
    sums, bad = _backward(run, group)
    totals = [sums.weight, sums.total, sum(batch.seconds * share for batch, share in group), float(bool(bad)),
              float(run.interrupt.asked), float(run.world.main and run.budget.spent)]
    weight, loss, seconds, any_bad, asked, spent = distributed.reduce(run.world, totals)
    stop = "interrupted" if asked else "budget" if spent else ""
    run.state.seconds += seconds
    if any_bad:
        _drop(run, bad, "loss")
        return None, stop
    run.scaler.unscale_(run.optimizer)
    params = [p for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
    grads = [p.grad for p in params]
    torch._foreach_mul_(grads, run.world.size / max(weight, 1e-9))
    total = nn.utils.get_total_norm(grads)
    norm = float(total)
    if run.config.clip_grad and norm + 1e-6 > run.config.clip_grad:  # otherwise clipping would multiply every gradient by 1
        nn.utils.clip_grads_with_norm_(params, run.config.clip_grad, total)
    finite = norm < float("inf")
    if not finite and not run.scaler.is_enabled():
        _drop(run, [batch for batch, share in group if share], "gradient")
        return None, stop
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if not finite:  # fp16: the scaler has left the step out and halves its scale
        run.state.skipped_in_a_row += 1
        if run.state.skipped_in_a_row >= run.config.remedies.non_finite_limit:
            raise Diverged(f"the gradient in float16 is not finite at step {run.state.step}, however little the loss is scaled "
                           f"({run.scaler.get_scale():.2g}), and so it was for {run.state.skipped_in_a_row} steps in a row; "
                           "train.precision=bf16 or fp32 has no such limit")
        return None, stop
    run.schedule.step()
    run.state.step += 1
    run.state.skipped_in_a_row = 0
    if run.average is not None:
        run.average.update(run.model, run.state.step)
    return {**sums.means(), "loss": loss / max(weight, 1e-9), "grad_norm": norm}, stop


def _backward(run: RunParts, group: list[tuple[Batch, float]]) -> tuple[Sums, list[Batch]]:
    """Gradients of the sum of weight · loss over a group → (sums, batches whose loss is not finite)."""
    while True:
        failed = None
        try:
            return _try_backward(run, [(part, share) for batch, share in _counted(run, group) for part in split(batch, run.state.pieces)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error).splitlines()[0]  # and let go of the error, whose frames hold tensors
        _shrink(run, group, failed)


def _counted(run: RunParts, group: list[tuple[Batch, float]]) -> list[tuple[Batch, float]]:
    """Batches that are to count as one, told how much that one holds: losses that are means over different units (tokens, tokens and
    ends) then weigh against one another as in one large batch."""
    if run.world.size == 1 and len(group) == 1 and run.state.pieces == 1 or any(batch.tokens is None for batch, _ in group):
        return group
    own = [float(sum(share * batch.size for batch, share in group)),
           float(sum(share * int(batch.tokens.lengths.sum()) for batch, share in group))]  # type: ignore[union-attr]
    whole = Counts(*distributed.reduce(run.world, own))
    return [(replace(batch, whole=whole), share) for batch, share in group]


def _try_backward(run: RunParts, parts: list[tuple[Batch, float]]) -> tuple[Sums, list[Batch]]:
    run.optimizer.zero_grad(set_to_none=True)
    sums, bad = Sums(), []
    for i, (batch, share) in enumerate(parts):
        hold = run.world.size > 1 and i < len(parts) - 1
        with run.net.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
            batch = batch.to(run.world.device)
            with _autocast(run), contextlib.nullcontext() if share else undisturbed_random_state():
                losses = run.net(batch)
            run.scaler.scale(losses.total * (share * float(losses.weight))).backward()
        if not abs(float(losses.total.detach())) < float("inf"):
            bad.append(batch)
        sums.add(losses, share)
    return sums, bad


def _drop(run: RunParts, bad: list[Batch], what: str) -> None:
    """A step whose loss or gradient is not finite: name the utterances and count, or stop."""
    state, remedies = run.state, run.config.remedies
    run.optimizer.zero_grad(set_to_none=True)
    with _autocast(run):
        ids = [id for batch in bad for id in (find_culprits(run.model, batch) if what == "loss" else batch.ids)]
    ids = [id for part in distributed.gather(run.world, ids) for id in part]
    state.skipped += 1
    state.skipped_in_a_row += 1
    named = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    text = f"the {what} is not finite at step {state.step} for {named}"
    if remedies.non_finite == "stop":
        raise NonFiniteLoss(f"{text}; mend or leave out these utterances, lower train.optimizer.lr, or set train.remedies.non_finite=skip")
    if state.skipped_in_a_row >= remedies.non_finite_limit:
        raise Diverged(f"{text}, and so it was for {state.skipped_in_a_row} steps in a row")
    run.log.event(state.step, state.epoch, f"{text}: step skipped ({state.skipped} so far)", ids=ids)


def _shrink(run: RunParts, group: list[tuple[Batch, float]], failed: str) -> None:
    """Cut every batch into twice as many parts from now on."""
    largest = max((batch for batch, _ in group), key=lambda batch: batch.input.values.numel())
    state = run.state
    if run.world.size > 1 or state.pieces >= 2 ** run.config.remedies.shrink_on_oom or state.pieces >= largest.size:
        raise ValueError(oom_advice(largest) + f" ({failed})")
    run.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if run.world.device.type == "cuda":
        torch.cuda.empty_cache()
    state.pieces *= 2
    run.log.event(state.step, state.epoch, f"{oom_advice(largest)}. Going on with batches cut into {state.pieces}, accumulated")


def _autocast(run: RunParts) -> torch.autocast:
    return autocast(run.dtype, run.world.device)
