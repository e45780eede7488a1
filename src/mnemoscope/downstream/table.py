"""Table: a finished downstream test in Markdown, beside the paper's Table 5."""

from collections.abc import Iterable, Sequence

from mnemoscope.core.types import Estimate
from mnemoscope.downstream.results import PAPER, SETS, ArmResult, DownstreamResult

TITLES = {
    "real_full": "real, all",
    "real_learned": "real, cut to the learned clips",
    "synthetic_full": "synthetic, all unflagged",
    "synthetic_random": "synthetic, as many as real, at random",
    "recall_small": "recall-small",
    "recall_large": "recall-large",
    "selected": "selected clips",
    "prior": "synthetic, EF distribution of the real clips",
    "prior_real": "real, as many, at random",
    "real_noisy": "real, with the errors of synthetic labels",
    "synthetic_measured": "synthetic, all unflagged",
}
LABELS = {
    "given": "as given",
    "relabelled": "read by a regressor of real clips",
    "measured": "true",
    "noisy": "true, with errors",
}
# Title → place in the paper's row, and form.
_PRINTED = {"R²": (0, "{:.2f}"), "MAE": (1, "{:.1f}"), "RMSE": (2, "{:.1f}"), "clips": (3, "{:,}")}


def markdown(result: DownstreamResult, *, of: Sequence[str] = SETS) -> str:
    """What was tested, all arms, the parts of the gap, and what is absent and why; the paper's numbers are ``of`` these

    of its sets.
    """
    head = [
        "arm",
        "EF",
        "clips",
        "R²",
        "R² by seed",
        "MAE",
        "RMSE",
        "R² against random clips",
        *(f"paper: {what}" for what in _PRINTED),
    ]
    arms = _table(head, (_arm(arm, of) for arm in result.arms))
    parts = _table(
        ["part", "loss of R²", "what is changed"],
        (
            [("" if p.adds_up else "*") + p.name + ("" if p.adds_up else "*"), told(p.loss), p.change]
            for p in result.parts
        ),
    )
    absent = [f"- {name}: not measured, {why}" for name, why in result.absent.items()]
    blocks = ([_about(result, of)], arms, parts if result.parts else [], absent)
    return "\n\n".join(["\n".join(block) for block in blocks if block])


def _about(result: DownstreamResult, of: Sequence[str]) -> str:
    """How to read the tables."""
    trainings = max(len(arm.r2_by_seed) for arm in result.arms)
    over = (
        "the mean over trainings, from resampling patients and trainings"
        if trainings > 1
        else "one training, from resampling patients alone: what another training would change is not in them"
    )
    italics = " Parts in italics do not belong to the sum." if result.parts else ""
    return (
        f"Tested on the real holdout: {result.holdout['clips']:,} clips of {result.holdout['patients']:,} patients; "
        f"{trainings} training{'s' if trainings > 1 else ''} an arm. Intervals are 95 %, of {over}. The paper's "
        f"numbers are of {' / '.join(of)}, one training each.{italics}"
    )


def told(estimate: Estimate | None, digits: int = 2) -> str:
    """A number with its interval; nothing where there is none."""
    if estimate is None:
        return ""
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def title(name: str) -> str:
    """The name of an arm in words."""
    base = name.removesuffix("_relabelled")
    control = base.removesuffix("_control")
    return TITLES[base] if base in TITLES else f"as many as {TITLES[control]}, at random"


def _arm(arm: ArmResult, of: Sequence[str]) -> list[str]:
    return [
        title(arm.name),
        LABELS[arm.labels],
        f"{arm.clips:,}",
        told(arm.r2),
        ", ".join(f"{value:.2f}" for value in arm.r2_by_seed),
        told(arm.mae, 1),
        told(arm.rmse, 1),
        told(arm.against_random),
        *_paper(arm, of),
    ]


def _paper(arm: ArmResult, of: Sequence[str]) -> list[str]:
    """The paper's synthetic clips are relabelled; its numbers stand beside ours that are."""
    printed = PAPER.get(arm.name.removesuffix("_relabelled"))
    if printed is None or (arm.source == "synthetic") != (arm.labels == "relabelled"):
        return [""] * len(_PRINTED)
    rows = [printed[SETS.index(name)] for name in of]
    return [" / ".join(form.format(row[place]) for row in rows) for place, form in _PRINTED.values()]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
