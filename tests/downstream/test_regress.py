from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.labels import r2
from mnemoscope.core.errors import Mismatch
from mnemoscope.core.rng import generator
from mnemoscope.downstream.decompose import PROBES, STEPS, decompose
from mnemoscope.downstream.regress import STATISTICS, difference, estimated, rmse, too_small
from mnemoscope.downstream.results import PAPER, DownstreamResult, summarise
from mnemoscope.downstream.subsets import Arm
from mnemoscope.downstream.table import markdown

EF = np.random.default_rng(0).uniform(20, 80, 60)
PATIENTS = [f"p{i // 2}" for i in range(60)]


def predictions(error: float, *, seed: int = 0) -> pd.DataFrame:
    """Predictions of 60 clips of 30 patients that err by a normal error."""
    noise = np.random.default_rng(seed).normal(0, error, len(EF))
    return pd.DataFrame(
        {"clip_id": [f"c{i}" for i in range(60)], "patient_id": PATIENTS, "ef": EF, "predicted": EF + noise}
    )


def by_hand(table: pd.DataFrame) -> tuple[float, float, float]:
    """R², MAE and RMSE, spelt out."""
    errors = [float(p - e) for p, e in zip(table["predicted"], table["ef"], strict=True)]
    mean = sum(table["ef"]) / len(table)
    squares = sum(error**2 for error in errors)
    spread = sum((e - mean) ** 2 for e in table["ef"])
    n = len(errors)
    return 1 - squares / spread, sum(map(abs, errors)) / n, (squares / n) ** 0.5


def test_statistics_are_the_mean_over_trainings_of_their_definitions() -> None:
    tables = [predictions(4, seed=0), predictions(9, seed=1)]
    expected = np.mean([by_hand(table) for table in tables], axis=0)
    found = {name: estimated(tables, s, rng=generator(0, "t")) for name, s in STATISTICS.items()}
    assert [found[name].value for name in ("r2", "mae", "rmse")] == pytest.approx(expected.tolist())
    assert all(e.low < e.value < e.high for e in found.values())


def test_a_weight_is_how_often_a_clip_counts() -> None:
    a, b = np.array([50.0, 60.0, 70.0]), np.array([52.0, 57.0, 70.0])
    assert rmse(a, b, np.array([2.0, 1.0, 0.0])) == pytest.approx(rmse(a[[0, 0, 1]], b[[0, 0, 1]], np.ones(3)))


def test_the_interval_is_that_of_patients() -> None:
    """Doubling every clip of a patient adds nothing; the same clips as patients of their own would narrow it."""
    table = predictions(6)
    double = pd.concat([table, table.assign(clip_id=table["clip_id"] + "x")], ignore_index=True)
    width = [_width(table), _width(double), _width(double.assign(patient_id=double["clip_id"]))]
    assert width[1] == pytest.approx(width[0], rel=1e-9)
    assert width[2] < 0.85 * width[0]


def _width(table: pd.DataFrame) -> float:
    found = estimated([table], r2, rng=generator(0, "t"))
    return found.high - found.low


def test_trainings_that_differ_widen_the_interval() -> None:
    alike, apart = (
        estimated([predictions(5, seed=0), predictions(error, seed=0)], r2, rng=generator(0, "t")) for error in (5, 15)
    )
    assert apart.high - apart.low > 2 * (alike.high - alike.low)
    assert apart.low < by_hand(predictions(15, seed=0))[0] < by_hand(predictions(5, seed=0))[0] < apart.high


def test_a_difference_is_paired_by_patient() -> None:
    first, second = [predictions(5)], [predictions(5).assign(predicted=lambda t: t["predicted"] + 2)]
    found = difference(first, second, r2, rng=generator(0, "t"))
    assert found.value == pytest.approx(by_hand(first[0])[0] - by_hand(second[0])[0])
    assert difference(first, first, r2, rng=generator(0, "t")).high == 0
    unpaired = estimated(first, r2, rng=generator(0, "t"))
    assert found.high - found.low < unpaired.high - unpaired.low
    with pytest.raises(Mismatch, match="the same test clips"):
        difference(first, [second[0].iloc[1:]], r2, rng=generator(0, "t"))


def all_arms(names: Sequence[str]) -> dict[str, list[pd.DataFrame]]:
    return {name: [predictions(3 + i, seed=i), predictions(3 + i, seed=50 + i)] for i, name in enumerate(names)}


def test_the_steps_add_up_to_the_gap() -> None:
    chain = list(STEPS.values())
    assert [second for _, second, _ in chain[:-1]] == [first for first, _, _ in chain[1:]]
    assert (chain[0][0], chain[-1][1]) == PROBES["gap"][:2]
    names = sorted({name for first, second, _ in (STEPS | PROBES).values() for name in (first, second)})
    parts = decompose(all_arms(names), seed=0)
    assert len(parts) == len(STEPS) + len(PROBES)
    gap = next(part for part in parts if part.name == "gap")
    assert sum(part.loss.value for part in parts if part.adds_up) == pytest.approx(gap.loss.value)


def test_parts_without_their_arms_are_left_out() -> None:
    assert [part.name for part in decompose(all_arms(["real_full", "synthetic_full", "prior"]), seed=0)] == ["gap"]


def made() -> DownstreamResult:
    arms = {
        "real_full": Arm("real", tuple("abc")),
        "real_learned": Arm("real", tuple("ab"), control="real_learned_control"),
        "real_learned_control": Arm("real", tuple("bc")),
        "synthetic_full": Arm("synthetic", tuple("xyz")),
        "synthetic_full_relabelled": Arm("synthetic", tuple("xyz"), labels="relabelled"),
    }
    return summarise(arms, all_arms(list(arms)), absent={"decomposition": "no reader"}, seed=0)


def test_a_result_holds_each_arm_beside_its_control_and_the_paper() -> None:
    result = made()
    r2s = {arm.name: arm.r2.value for arm in result.arms}
    learned = result.arms[1]
    assert learned.against_random is not None
    assert learned.against_random.value == pytest.approx(r2s["real_learned"] - r2s["real_learned_control"])
    assert [arm.against_random is None for arm in result.arms] == [True, False, True, True, True]
    assert [np.mean(arm.r2_by_seed) for arm in result.arms] == pytest.approx([arm.r2.value for arm in result.arms])
    assert result.holdout == {"clips": 60, "patients": 30}
    values = result.to_json()
    assert values["paper"]["recall_small"]["Dynamic"] == {"r2": -0.01, "mae": 10.86, "rmse": 12.13, "clips": 1396}
    assert values["absent"] == {"decomposition": "no reader"}


def test_the_papers_numbers_stand_beside_the_arms_they_are_of() -> None:
    lines = markdown(made()).splitlines()
    real, given, read = (
        next(line for line in lines if line.startswith(f"| {name} |"))
        for name in (
            "real, all | as given",
            "synthetic, all unflagged | as given",
            "synthetic, all unflagged | read by a regressor of real clips",
        )
    )
    assert lines[0].startswith("Tested on the real holdout: 60 clips of 30 patients; ")
    assert "| 0.82 / 0.74 / 0.76 | 4.0 / 4.2 / 3.7 | 5.2 / 5.9 / 5.1 | 7,465 / 2,580 / 3,559 |" in real
    assert "0.29" not in given
    assert "| 0.29 / 0.57 / 0.06 | 9.0 / 5.5 / 8.7 | 10.3 / 7.6 / 10.2 |" in read
    assert "- decomposition: not measured, no reader" in lines
    assert len({line.count("|") for line in lines if line.startswith("|") and "R² by seed" not in line}) == 2
    assert set(PAPER) <= {"real_full", "real_learned", "synthetic_full", "synthetic_random", *_recall()}


def _recall() -> tuple[str, str]:
    return "recall_small", "recall_large"


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ((1,) * 12, None),
        ((1,) * 11, "11 clips of 11 patients"),
        ((40,), "40 clips of 1 patients"),
        ((9, 10), "19 clips"),
    ],
)
def test_arms_that_are_too_small_say_how_small(sizes: tuple[int, ...], found: str | None) -> None:
    """Of twelve patients at 15 % two choose the network, whoever they are; ten clips remain."""
    groups = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    why = too_small(pd.DataFrame({"group": groups}), val_share=0.15)
    assert why is None if found is None else found in str(why)
