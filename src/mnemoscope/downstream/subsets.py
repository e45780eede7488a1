"""Subsets: from the table of an audited synthetic set to the clips that each regressor is trained on; ids alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from mnemoscope.core.rng import generator
from mnemoscope.release.select import LARGE, in_rounds

Source = Literal["real", "synthetic"]
Labels = Literal["given", "relabelled", "measured", "noisy"]
QUANTILES = 5
MATCHED = ("prior", "prior_control", "prior_real")  # arms of one size
_ALIKE = 10  # clips of about the same EF, of which one lends its error


@dataclass(frozen=True)
class Arm:
    """What one regressor is trained on.

    Attributes:
        source: of the clips.
        clips: their ids.
        labels: their EF: as ``given`` in the table (for synthetic clips the requested one), ``relabelled`` by a
            regressor trained on real clips, ``measured`` by the reader, or given and ``noisy`` with the errors of
            synthetic labels.
        control: name of the arm of as many clips drawn at random; None for arms that were not cut.
    """

    source: Source
    clips: tuple[str, ...]
    labels: Labels = "given"
    control: str | None = None


def paper_arms(real: pd.DataFrame, synthetic: pd.DataFrame, *, seed: int) -> dict[str, Arm]:
    """The arms of the paper's Table 5, and beside each cut one as many clips drawn at random.

    Args:
        real: train clips, ``clip_id``.
        synthetic: usable (unflagged) clips, ``clip_id``, ``nearest_clip_id`` and ``gated``, and ``selected`` where a
            person chose some.
        seed: of the draws.

    Returns:
        By name; ``synthetic_random`` has as many clips as the real set, and is absent where there are not as many.

    Source: Dombrowski et al. 2024, Table 5. Which synthetic clip of a learned train clip is taken is not said there;
    here it is drawn. Only ``recall_large`` has no size-matched control there.
    """
    learned = set(synthetic.loc[synthetic["gated"], "nearest_clip_id"])
    reached, _ = pd.factorize(synthetic["nearest_clip_id"].where(synthetic["gated"]))
    order = generator(seed, "downstream", "recall").permutation(len(synthetic))
    usable = np.ones(len(synthetic), dtype=bool)
    small, large = (
        synthetic["clip_id"].to_numpy()[in_rounds(reached, usable, order, most=most)] for most in (1, LARGE)
    )
    real_ids, synthetic_ids = real["clip_id"].to_numpy(), synthetic["clip_id"].to_numpy()
    cuts = {
        "real_learned": Arm("real", tuple(real_ids[real["clip_id"].isin(learned)])),
        "recall_small": Arm("synthetic", tuple(small)),
        "recall_large": Arm("synthetic", tuple(large)),
    }
    if "selected" in synthetic:
        cuts["selected"] = Arm("synthetic", tuple(synthetic_ids[synthetic["selected"]]))
    arms = {"real_full": Arm("real", tuple(real_ids)), "synthetic_full": Arm("synthetic", tuple(synthetic_ids))}
    if len(synthetic) > len(real):
        arms["synthetic_random"] = at_random("synthetic", synthetic_ids, len(real), seed, "synthetic_random")
    for name, arm in cuts.items():
        control, ids = f"{name}_control", real_ids if arm.source == "real" else synthetic_ids
        if name == "selected" and len(arm.clips) == len(synthetic):
            arms[name] = arm  # all of them: nothing to draw
            continue
        arms[name] = replace(arm, control=control)
        arms[control] = at_random(arm.source, ids, len(arm.clips), seed, control)
    return dict(sorted(arms.items(), key=lambda item: item[1].source))  # real ones first


def at_random(source: Source, ids: np.ndarray, count: int, seed: int, name: str) -> Arm:
    """``count`` clips drawn without replacement; the draw is named (seed, name)."""
    chosen = generator(seed, "downstream", name).permutation(len(ids))[:count]
    return Arm(source, tuple(ids[np.sort(chosen)]))


def relabelled(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """The synthetic arms with the EF that a regressor trained on real clips reads off them."""
    return {
        f"{name}_relabelled": replace(
            arm, labels="relabelled", control=f"{arm.control}_relabelled" if arm.control else None
        )
        for name, arm in arms.items()
        if arm.source == "synthetic"
    }


def decomposing_arms(real: pd.DataFrame, synthetic: pd.DataFrame, measured: pd.Series, *, seed: int) -> dict[str, Arm]:
    """What tells the parts of the gap between real and synthetic clips apart, each by an intervention.

    Args:
        real: train clips, ``clip_id`` and ``ef``.
        synthetic: usable clips, ``clip_id``.
        measured: EF of synthetic clips by id, NaN where the reader found none.
        seed: of the draws.

    Returns:
        ``real_noisy``: all real clips, with errors of synthetic labels. ``synthetic_measured``: all synthetic clips
        with their true EF. ``prior``: as many of these as can have the EF distribution of the real clips.
        ``prior_control``: as many drawn at random. ``prior_real``: as many real clips.
    """
    found = measured.reindex(synthetic["clip_id"]).dropna()
    ids, real_ids = found.index.to_numpy(), real["clip_id"].to_numpy()
    rng = generator(seed, "downstream", "prior")
    chosen = ids[matched_prior(found.to_numpy(), real["ef"].to_numpy(), rng=rng)]
    arms = {
        "synthetic_measured": Arm("synthetic", tuple(ids)),
        "prior": Arm("synthetic", tuple(chosen), control="prior_control"),
        "prior_control": at_random("synthetic", ids, len(chosen), seed, "prior_control"),
    }
    arms = {name: replace(arm, labels="measured") for name, arm in arms.items()}
    return arms | {
        "prior_real": at_random("real", real_ids, len(chosen), seed, "prior_real"),
        "real_noisy": Arm("real", tuple(real_ids), labels="noisy"),
    }


def matched_prior(ef: np.ndarray, reference: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """As many clips as can have the distribution of a reference: equal numbers in each of its ``QUANTILES``, ascending.

    Args:
        ef: of the clips to choose from, in percent, (N,).
        reference: whose distribution is wanted, and at most how many, (M,).
        rng: draws the clips.
    """
    edges = np.quantile(reference, np.linspace(0, 1, QUANTILES + 1))
    inside = (ef >= edges[0]) & (ef <= edges[-1])
    part = np.clip(np.searchsorted(edges, ef, side="right") - 1, 0, QUANTILES - 1)
    members = [rng.permutation(np.flatnonzero(inside & (part == number))) for number in range(QUANTILES)]
    each = min(*(len(some) for some in members), len(reference) // QUANTILES)
    return np.sort(np.concatenate([some[:each] for some in members]))


def with_errors(ef: np.ndarray, *, requested: np.ndarray, measured: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True EF of real clips with the errors that labels of synthetic clips of about that EF have, (N,).

    Args:
        ef: of the real clips, in percent, (N,).
        requested: labels of the synthetic clips, (S,), S at least 1.
        measured: their true EF, (S,).
        rng: draws whose error each clip gets, among the ``_ALIKE`` of the nearest true EF.
    """
    order = np.argsort(measured, kind="stable")
    error, at = (requested - measured)[order], measured[order]
    alike = min(_ALIKE, len(at))
    first = np.clip(np.searchsorted(at, ef) - alike // 2, 0, len(at) - alike)
    return ef + error[first + rng.integers(0, alike, size=len(ef))]


def split_off(groups: np.ndarray, *, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which clips choose the network: all those of a share of the groups, at least one, never all, (N,).

    Args:
        groups: patient or source of each clip, (N,), of two or more.
        share: of the groups, in (0, 1).
        rng: draws them.
    """
    names = np.unique(groups)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return np.isin(groups, rng.permutation(names)[:count])
