"""How a person declares the training of the experts."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from fm_platform.spec.part import Part

MethodName = Literal[
    "lora", "rslora", "dora", "ia3", "adalora", "prompt", "bitfit", "full", "fish", "head",
]  # fmt: skip
"""What of the base model is trained, and how."""
AutoName = Literal["lora", "rslora", "full", "head"]
LossName = Literal["soft", "generalised"]
"""Of a training row: soft cross entropy, or one that trusts a single label less."""
WeightsName = Literal["none", "confidence", "source", "class"]
"""How much rows count: alike, by how sure their label is, or sources or classes balanced."""
WHOLE_DEPTH = ("adalora", "bitfit", "prompt")
"""Methods that work on all layers together: no lower ones can be frozen."""


class Continue(Part):
    """Going on from yesterday's adapter instead of training all again every day."""

    replay: float = Field(
        default=1.0, ge=0, le=10, description="rows of the past that are trained on for a new one"
    )
    reservoir_rows: int = Field(
        default=100, ge=1, description="rows kept of the past, of each split, source and class"
    )
    full_every: int = Field(default=28, ge=1, description="days between full retrains")
    margin: float = Field(
        default=2.0, ge=0, le=100,
        description="points of agreement with weak dev labels that may be lost against the last"
        " full training; more, and all is trained again",
    )  # fmt: skip


class Auto(Part):
    """What is tried where `method` is `auto`: short trainings, judged by weak dev labels.

    Attributes:
        methods: Ways of training; `head` is a linear probe of the frozen base.
        ranks: Ranks of LoRA; alpha keeps its declared ratio to the rank.
        rates: Factors of the declared learning rates.
        frozen_layers: Numbers of lower layers that are not trained.
        losses: Losses; none: the declared one alone.
        weights: Weights of rows; none: the declared ones alone.
        subsets: Shares of the rows; none: the declared one alone.
        judge: Whether weak dev labels or gold dev rows (the few that labeling may read) decide.
        trials: Trainings at most; each method is tried first as it is declared.
        rows_per_source: Training rows of a trial, of each source at most.
        epochs: Of a trial.
        minutes: After so long no further trial begins; what was not tried is said.
        every: Days between two searches; between them the choice stays.
    """

    methods: tuple[AutoName, ...] = Field(default=("lora", "rslora", "full", "head"), min_length=1)
    ranks: tuple[int, ...] = Field(default=(4, 8, 16), min_length=1)
    rates: tuple[float, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    frozen_layers: tuple[int, ...] = Field(default=(0,), min_length=1)
    losses: tuple[LossName, ...] = ()
    weights: tuple[WeightsName, ...] = ()
    subsets: tuple[float, ...] = ()
    judge: Literal["weak", "gold"] = "weak"
    trials: int = Field(default=8, ge=1, le=200)
    rows_per_source: int = Field(default=500, ge=1)
    epochs: int = Field(default=1, ge=1, le=100)
    minutes: float = Field(default=20.0, gt=0)
    every: int = Field(default=28, ge=1)

    @field_validator("ranks", "rates", "frozen_layers")
    @classmethod
    def _usable(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        least = 0 if info.field_name == "frozen_layers" else 1e-6
        if min(value) < least or max(value) > 1000 or len(set(value)) < len(value):
            raise ValueError("different numbers above 0 are expected, 1000 at most")
        return value

    @field_validator("losses", "weights", "subsets")
    @classmethod
    def _each_once(cls, value: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        if len(set(value)) < len(value):
            raise ValueError("different values are expected")
        if info.field_name == "subsets" and not all(0 < float(str(one)) <= 1 for one in value):
            raise ValueError("shares above 0 are expected, 1 at most")
        return value


class NarrowGap(Part):
    """Training that looks most at the group that is worst off, so that groups end closer together.

    It holds for start and experts; one that has rows of a single group is trained as without, and
    so are the trials of `method: auto`.

    Attributes:
        between: Sources, or classes: the likeliest ones of the weak labels.
        strength: How far the weights of a row in two groups move apart: at the end their logarithms
            differ by this times the mean difference of the groups' losses in nats. The greater,
            the more the worst group counts and the less the average.
    """

    between: Literal["source", "class"] = "source"
    strength: float = Field(default=10.0, gt=0, le=1000)


class Training(Part):
    """How each expert is trained."""

    model_config = ConfigDict(populate_by_name=True)

    method: Literal[MethodName, "auto"] = Field(
        default="lora", description="what of the base model is trained; auto: what trials say"
    )
    auto: Auto = Auto()
    frozen_layers: int = Field(
        default=0, ge=0, le=1000,
        description="lower layers that are not trained; what they give for a text is kept",
    )  # fmt: skip
    continuing: Continue | None = Field(
        default=None, alias="continue", description="absent: every training is a full one"
    )
    narrow_gap: NarrowGap | None = Field(
        default=None, description="absent: every row counts the same, whatever its group"
    )
    rank: int = Field(default=8, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="of the shared start")
    expert_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    full_learning_rate: float = Field(
        default=2e-4, gt=0, le=1, description="of start and experts where all is fine-tuned"
    )
    mask_share: float = Field(
        default=0.01, gt=0, le=1, description="fish: share of the parameters that are trained"
    )
    mask_rows: int = Field(default=256, ge=1, description="fish: rows that choose them, at most")
    start_rows_per_source: int = Field(default=1500, ge=1)
    probe_rows: int = Field(default=2000, ge=1, description="rows the head is fitted on first")
    probe_epochs: int = Field(default=15, ge=0, description="0: no probing before fine-tuning")
    probe_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    max_rows: int = Field(default=3000, ge=1, description="rows an expert sees at most")
    max_dev_rows: int = Field(default=200, ge=1, description="dev rows of a source at most")
    threads: int = Field(default=2, ge=1, description="of one training; changes the last bits")
    epochs: int = Field(default=1, ge=1, le=100)
    batch_tokens: int = Field(default=1024, ge=64, description="tokens of one padded batch")
    max_tokens: int = Field(default=128, ge=8, le=8192, description="longer texts are cut")
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    window_days: int = Field(default=90, ge=1)
    evaluations_per_epoch: int = Field(default=2, ge=1)
    patience: int = Field(default=2, ge=1, description="evaluations without a better dev loss")
    checkpoint_every_steps: int = Field(default=50, ge=1)
    target_power: float = Field(
        default=1.0, ge=1, le=64, description="above 1 the weak posteriors are sharpened"
    )
    loss: LossName = Field(
        default="soft", description="of training rows; dev rows keep soft cross entropy"
    )
    loss_q: float = Field(
        default=0.7, gt=0, le=1,
        description="of the generalised loss: near 0 cross entropy, 1 the mean absolute error",
    )  # fmt: skip
    weights: WeightsName = Field(default="none", description="how much each training row counts")
    subset: float = Field(
        default=1.0, gt=0, le=1, description="share of each source's rows that training takes"
    )
    subset_by: Literal["coverage", "certainty"] = Field(
        default="coverage", description="rows that stand for the others, or with the surest labels"
    )
    seed: int = 0

    @property
    def covers(self) -> bool:
        """Whether a training, or a trial of one, reads embeddings to choose its rows."""
        tried = self.auto.subsets if self.method == "auto" else ()
        return self.subset_by == "coverage" and min(self.subset, *tried, 1.0) < 1

    def rate(self, *, start: bool) -> float:
        """Return the peak learning rate of the shared start, or of an expert."""
        if self.method == "full":
            return self.full_learning_rate
        return self.learning_rate if start else self.expert_learning_rate

    @model_validator(mode="after")
    def _mask_stays(self) -> Training:
        if self.method == "fish" and self.continuing is not None:
            raise ValueError("fish trains one mask, and going on would choose another every day")
        return self

    @model_validator(mode="after")
    def _layers_can_be_frozen(self) -> Training:
        if self.frozen_layers and self.method in WHOLE_DEPTH:
            raise ValueError(f"{self.method} works on all layers: frozen_layers must be 0")
        if self.frozen_layers and self.method in ("auto", "head"):
            told = "auto tries auto.frozen_layers" if self.method == "auto" else "head freezes all"
            raise ValueError(f"{told}: frozen_layers must be 0")
        if self.narrow_gap is not None and self.method == "adalora":
            raise ValueError("adalora has a training loop of its own: it cannot narrow_gap")
        return self

    @model_validator(mode="after")
    def _groups_are_told_apart_by_the_plain_loss(self) -> Training:
        others = {self.loss, self.weights, *self.auto.losses, *self.auto.weights}
        if self.narrow_gap is not None and others - {"soft", "none"}:
            raise ValueError("narrow_gap weighs groups by the soft loss: no other loss or weights")
        return self

    @model_validator(mode="after")
    def _rows_can_be_left_out(self) -> Training:
        if self.continuing is not None and min(self.subset, *self.auto.subsets, 1.0) < 1:
            raise ValueError("continue keeps rows of its own: subset must be 1")
        return self
