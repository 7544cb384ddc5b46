"""Options of training. Each dataclass says in its docstring what an option means; `problems()` names what does not fit together."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from voxkit.precision import PRECISIONS

OPTIMIZERS = ("adamw", "adam", "muon", "scaled_adam")


@dataclass
class OptimizerConfig:
    """Attributes:
    name: adamw, adam, muon (for the matrices, with AdamW for the rest; AdamW's rates and more) or scaled_adam (Zipformer's own; its rate is
        about a hundred times AdamW's).
    lr: learning rate after the warm-up.
    weight_decay: of matrices; vectors and scalars (biases, norms) are left alone unless `decay_vectors`.
    betas, eps: of Adam, and of what Muon leaves to AdamW; ScaledAdam takes the betas.
    momentum: Muon's.
    clipping_scale: ScaledAdam clips at this multiple of the median of recent gradient norms; 0 = off.
    """

    name: str = "adamw"
    lr: float = 5e-4
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    eps: float = 1e-8
    momentum: float = 0.95
    clipping_scale: float = 2.0
    decay_vectors: bool = False

    def problems(self) -> list[str]:
        found = []
        if self.name not in OPTIMIZERS:
            found.append(f"name: {self.name!r} is none of {', '.join(OPTIMIZERS)}")
        if self.lr <= 0:
            found.append(f"lr: {self.lr} is not above 0")
        if self.weight_decay < 0:
            found.append(f"weight_decay: {self.weight_decay} is negative")
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            found.append(f"betas: {self.betas} should be two numbers in [0, 1)")
        if not 0 <= self.momentum < 1:
            found.append(f"momentum: {self.momentum} is not in [0, 1)")
        if self.clipping_scale < 0:
            found.append(f"clipping_scale: {self.clipping_scale} is negative; 0 switches it off")
        return found


@dataclass
class GroupConfig:
    """Parameters that get a learning rate of their own.

    Attributes:
        pattern: on full parameter names: a glob (`front_end.pretrained.*`), or `re:` and a regular expression found anywhere in
            the name (`re:\\.layers\\.1[01]\\.`). A parameter belongs to the first group that matches.
        lr: the rate; 0 = lr_scale times the optimizer's.
        lr_scale: multiple of the optimizer's rate.
        weight_decay: negative = the optimizer's.
    """

    pattern: str = ""
    lr: float = 0.0
    lr_scale: float = 1.0
    weight_decay: float = -1.0

    def problems(self) -> list[str]:
        found = []
        if not self.pattern:
            found.append("pattern: is empty")
        if self.pattern.startswith("re:"):
            try:
                re.compile(self.pattern[3:])
            except re.error as error:
                found.append(f"pattern: {self.pattern!r} is not a regular expression: {error}")
        if self.lr < 0 or self.lr_scale < 0:
            found.append("lr: a learning rate is negative")
        if self.lr > 0 and self.lr_scale != 1.0:
            found.append("lr: give lr or lr_scale, not both")
        return found


@dataclass
class ScheduleConfig:
    """Attributes:
    name: cosine (AdamW's), eden (ScaledAdam's, Yao et al. 2023), linear or constant; each after a linear warm-up.
    warmup_steps: optimizer steps.
    total_steps: where cosine and linear end; None = train.max_steps, else the epochs times the loader's length.
    min_lr_ratio: where cosine and linear end, as a share of the learning rate.
    lr_batches, lr_epochs: Eden's two time constants, in steps and epochs.
    """

    name: str = "cosine"
    warmup_steps: int = 1000
    total_steps: int | None = None
    min_lr_ratio: float = 0.01
    lr_batches: float = 7500.0
    lr_epochs: float = 3.5

    def problems(self) -> list[str]:
        found = []
        if self.name not in ("cosine", "eden", "linear", "constant"):
            found.append(f"name: {self.name!r} is none of cosine, eden, linear, constant")
        if self.warmup_steps < 0:
            found.append(f"warmup_steps: {self.warmup_steps} is negative")
        if self.total_steps is not None and self.total_steps <= self.warmup_steps and self.name in ("cosine", "linear"):
            found.append(f"total_steps: {self.total_steps} leaves nothing after {self.warmup_steps} warmup_steps")
        if not 0 <= self.min_lr_ratio <= 1:
            found.append(f"min_lr_ratio: {self.min_lr_ratio} is not in [0, 1]")
        if self.lr_batches <= 0 or self.lr_epochs <= 0:
            found.append("lr_batches: Eden's lr_batches and lr_epochs are above 0")
        return found


@dataclass
class AverageConfig:
    """Averages of the weights.

    Attributes:
        kind: of the running average kept while training: none, mean (of the whole run; the mean between two checkpoints can be
            had from it, as icefall does) or ema.
        every: optimizer steps between two updates.
        decay: of the ema, per update.
        start: first step that counts.
        validate: measure the metrics on the running average instead of the current weights.
        best: at the end, average this many of the best checkpoints into checkpoints/averaged, which is kept unless the best alone is
            better; 0 = none.
    """

    kind: str = "none"
    every: int = 10
    decay: float = 0.999
    start: int = 0
    validate: bool = False
    best: int = 0

    def problems(self) -> list[str]:
        found = []
        if self.kind not in ("none", "mean", "ema"):
            found.append(f"kind: {self.kind!r} is none of none, mean, ema")
        if self.every < 1:
            found.append(f"every: {self.every} is below 1")
        if not 0 < self.decay < 1:
            found.append(f"decay: {self.decay} is not in (0, 1)")
        if self.validate and self.kind == "none":
            found.append("validate: there is no running average; set kind to mean or ema")
        return found


@dataclass
class RemedyConfig:
    """What training does about the usual accidents by itself.

    Attributes:
        non_finite: a loss or gradient that is not finite: skip (drop the step, name the utterances, count) or stop.
        non_finite_limit: so many dropped steps in a row are a divergence.
        halve_on_divergence: go back to the last good checkpoint and halve the learning rate, at most this many times; 0 = stop instead.
        divergence_factor: diverged is: the smoothed loss is above this multiple of its lowest value and above half of its first.
        divergence_window: steps over which the loss is smoothed.
        shrink_on_oom: out of memory: cut batches in two, up to this many times, and accumulate the parts; 0 = stop instead.
    """

    non_finite: str = "skip"
    non_finite_limit: int = 20
    halve_on_divergence: int = 3
    divergence_factor: float = 3.0
    divergence_window: int = 50
    shrink_on_oom: int = 4

    def problems(self) -> list[str]:
        found = []
        if self.non_finite not in ("skip", "stop"):
            found.append(f"non_finite: {self.non_finite!r} is none of skip, stop")
        for name in ("halve_on_divergence", "shrink_on_oom"):
            if getattr(self, name) < 0:
                found.append(f"{name}: {getattr(self, name)} is negative; 0 switches it off")
        if self.non_finite_limit < 1 or self.divergence_window < 1:
            found.append("non_finite_limit: non_finite_limit and divergence_window are at least 1")
        if self.divergence_factor <= 1:
            found.append(f"divergence_factor: {self.divergence_factor} is not above 1")
        return found


@dataclass
class TrainConfig:
    """A training run.

    Attributes:
        epochs: passes over the data; max_steps: optimizer steps after which it ends in any case, 0 = no such limit.
        optimizer, groups, schedule: see there.
        precision: fp32, bf16, fp16 (with loss scaling), or auto: bf16 where the device computes in it, else fp16 on CUDA and fp32
            elsewhere.
        accumulate: batches per optimizer step. They weigh as one large batch: by `weight` of the model's loss, else by utterances.
        clip_grad: largest gradient norm; 0 = no clipping.
        activation_checkpointing: recompute activations in the backward pass (needs `model.enable_activation_checkpointing()`).
        log_every: steps between two lines of the log.
        validate_every: steps between two validations; 0 = after each epoch.
        checkpoint_every: steps between two checkpoints; there is one after each validation and at the end in any case.
        keep_last, keep_best: checkpoints kept.
        metric, mode: which metric of the validation says what is best, min or max; an empty metric means the system's own, say wer.
        patience: stop after this many validations without a new best; 0 = never.
        average: running average and average of the best.
        mirror: any fsspec URL (s3://, gs://, file://) where checkpoints are copied; a run that finds none of its own continues
            from there, so a mirror belongs to one run (`${name}` in the URL is the run's). mirror_every: copy one in so many
            checkpoints, and always the last.
        max_hours: of training, over all resumes; it then ends with a checkpoint; 0 = no limit.
        price_per_hour: what the machine costs, for the log.
        remedies: against accidents.
        find_unused_parameters: of DistributedDataParallel; off is faster where every parameter gets a gradient in each step.
    """

    epochs: int = 20
    max_steps: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    groups: list[GroupConfig] = field(default_factory=list)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: str = "fp32"
    accumulate: int = 1
    clip_grad: float = 5.0
    activation_checkpointing: bool = False
    log_every: int = 50
    validate_every: int = 0
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_best: int = 5
    metric: str = ""
    mode: str = "min"
    patience: int = 0
    average: AverageConfig = field(default_factory=AverageConfig)
    mirror: str = ""
    mirror_every: int = 1
    max_hours: float = 0.0
    price_per_hour: float = 0.0
    remedies: RemedyConfig = field(default_factory=RemedyConfig)
    find_unused_parameters: bool = True

    def problems(self) -> list[str]:
        found = [f"groups[{i}].{p}" for i, group in enumerate(self.groups) for p in group.problems()]
        for name in ("epochs", "accumulate", "log_every", "keep_last", "mirror_every"):
            if getattr(self, name) < 1:
                found.append(f"{name}: {getattr(self, name)} is below 1")
        for name in ("max_steps", "clip_grad", "validate_every", "checkpoint_every", "keep_best", "patience", "max_hours",
                     "price_per_hour"):
            if getattr(self, name) < 0:
                found.append(f"{name}: {getattr(self, name)} is negative; 0 switches it off")
        if self.precision not in PRECISIONS:
            found.append(f"precision: {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.mode not in ("min", "max"):
            found.append(f"mode: {self.mode!r} is none of min, max")
        if self.average.best > self.keep_best:
            found.append(f"average.best: {self.average.best} checkpoints to average, but keep_best keeps {self.keep_best}")
        return found
