import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from mnemoscope.audit.run.beside_paper import learned, markdown, tables
from mnemoscope.audit.run.paper import GENERALISATION, HEADS, IDENTIFICATION, SETS
from mnemoscope.audit.run.reproduce import Measured
from mnemoscope.core.types import Estimate, Verification
from tests.report import full

HEAD_LOSS = {"pred": 0.0, "l1": 0.01, "l2": 0.02, "corr": 0.03, "cosine": 0.04}


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.005, value + 0.005)


def measured(space: str, train: str, test: str, auc: float) -> Measured:
    verified = Verification(
        space=space,
        preset="default",
        auc=estimate(auc),
        top1=estimate(0.5),
        tpr_at_fpr={},
        accuracy=0.9,
        f1=0.8,
        precision=0.7,
        recall=0.6,
        confusion=((9, 1), (2, 8)),
        heads={head: estimate(auc - loss) for head, loss in HEAD_LOSS.items()},
    )
    mean = 0.5 if space == "image" else 0.6
    return Measured(space, train, test, 10, verified, mcc_mean=mean, mcc_std=0.1, training_s=12.3)


def auc_of(space: str, train: str, test: str) -> float:
    """Nine different numbers; image space is better on the own set and from PSAX to A4C, equal to Dynamic."""
    value = 0.9 + 0.01 * SETS.index(train) + 0.001 * SETS.index(test)
    change = {("psax", "a4c"): 0.0008, ("psax", "dynamic"): -0.0001}
    return value + change.get((train, test), 0.0008 if train == test else -0.0008) * (space == "image")


FOUND = [
    measured(space, train, test, auc_of(space, train, test))
    for space in ("image", "latent")
    for train in SETS
    for test in SETS
]
ROWS = tables(FOUND)


def test_table_1_is_the_diagonal_beside_the_paper() -> None:
    rows = ROWS["identification"]
    assert [(row["space"], row["set"]) for row in rows] == [(s, name) for s in ("image", "latent") for name in SETS]
    psax = rows[-1]
    assert psax["auc"] == {
        "value": pytest.approx(0.922),
        "low": pytest.approx(0.917),
        "high": pytest.approx(0.927),
    }
    assert [psax[name] for name in ("accuracy", "f1", "precision", "recall")] == [0.9, 0.8, 0.7, 0.6]
    assert psax["confusion"] == ((9, 1), (2, 8))
    assert psax["paper"] == {"auc": 0.999, "accuracy": 0.994, "f1": 0.994, "precision": 0.993, "recall": 0.996}


def test_table_2_has_train_in_rows_and_test_in_columns() -> None:
    row = next(r for r in ROWS["generalisation"] if (r["space"], r["train"], r["test"]) == ("latent", "psax", "a4c"))
    assert row["auc"]["value"] == pytest.approx(0.921)
    assert row["mcc"] == {"mean": 0.6, "std": 0.1}
    assert row["paper"] == {"auc": 0.984, "mcc": {"mean": 0.77, "std": 0.12}}
    assert len(ROWS["generalisation"]) == 18


@pytest.mark.parametrize(("head", "total"), [("pred", 0.995), ("l1", 0.994), ("l2", 0.992), ("corr", 0.989)])
def test_table_3_takes_the_mean_over_all_pairs_as_the_paper_prints_it(head: str, total: float) -> None:
    row = next(r for r in ROWS["heads"] if (r["space"], r["head"]) == ("latent", head))
    assert round(row["paper"]["all"], 3) == total
    expected = {
        "all": np.mean([auc_of("latent", a, b) for a in SETS for b in SETS]),
        "other": np.mean([auc_of("latent", a, b) for a in SETS for b in SETS if a != b]),
        "own": np.mean([auc_of("latent", a, a) for a in SETS]),
    }
    assert row["auc"] == {kind: pytest.approx(mean - HEAD_LOSS[head]) for kind, mean in expected.items()}


def test_the_papers_own_numbers_agree_with_each_other() -> None:
    """The trained head's AUC stands in Tables 2 and 3, that of the own set in Tables 1 and 2."""
    for train, name in enumerate(SETS):
        assert [auc for auc, _, _ in GENERALISATION["latent"][name]] == [
            HEADS["pred"][test][train] for test in range(3)
        ]
        for space in ("image", "latent"):
            assert IDENTIFICATION[space][name][0] == GENERALISATION[space][name][train][0]


def test_what_the_paper_does_not_print_is_null() -> None:
    assert {(row["space"], row["head"]) for row in ROWS["heads"] if row["paper"] is None} == {
        *(("image", head) for head in HEAD_LOSS),
        ("latent", "cosine"),
    }


def test_a_head_without_an_auc_makes_its_means_null_and_says_why() -> None:
    verified = FOUND[-2].verification
    lacking = replace(
        FOUND[-2],
        verification=replace(verified, heads=verified.heads | {"corr": None}),
        absent={"reid.heads.corr": "constant features"},
    )
    rows = tables([*FOUND[9:16], lacking, FOUND[17]])
    corr = next(row for row in rows["heads"] if row["head"] == "corr")
    assert (lacking.train, lacking.test) == ("psax", "a4c")
    assert (corr["auc"]["all"], corr["auc"]["other"]) == (None, None)
    assert corr["auc"]["own"] == pytest.approx(np.mean([auc_of("latent", a, a) for a in SETS]) - 0.03)
    assert rows["absent"] == [
        {"space": "latent", "train": "psax", "test": "a4c", "what": "reid.heads.corr", "why": "constant features"}
    ]
    assert "| latent | Corr | – / 0.989 | – / " in markdown(rows, origin=[])
    json.dumps(rows, allow_nan=False)


def test_each_number_stands_beside_the_papers() -> None:
    page = markdown(ROWS, origin=["From the moon."])
    for line in (
        "| latent | PSAX | 10 | 0.922 [0.917–0.927] / 0.999 | 0.900 / 0.994 | 0.800 / 0.994 | 0.700 / 0.993 "
        "| 0.600 / 0.996 | 12 |",
        "| latent | A4C | 0.910 / 0.994<br>0.60 ± 0.10 / 0.81 ± 0.08 | 0.911 / 0.991<br>0.60 ± 0.10 / 0.81 ± 0.08 "
        "| 0.912 / 1.000<br>0.60 ± 0.10 / 0.81 ± 0.09 |",
        "| latent | Pred | 0.911 / 0.995 | 0.911 / 0.994 | 0.911 / 0.996 |",
        "| image | Pred | 0.911 / – | 0.911 / – | 0.912 / – |",
        "Latent above image space, as printed: AUC on other sets in 4 of 6 cases and equal in 1 (paper: 5 of 6 cases "
        "and equal in 1); correlation in 9 of 9 cases (paper: 9 of 9 cases).",
        "From the moon.",
    ):
        assert line in page.splitlines()


def test_one_space_alone_is_compared_with_nothing() -> None:
    rows = tables(FOUND[9:])
    assert {row["space"] for part in ("identification", "generalisation", "heads") for row in rows[part]} == {"latent"}
    assert "Latent above image space" not in markdown(rows, origin=[])


def test_table_4_has_learned_and_flagged_clips_of_each_audited_set() -> None:
    result = full.result()
    assert result.recall is not None
    assert result.privacy is not None
    rows = learned({"a4c": result, "psax": replace(result, recall=None)})
    assert [row["set"] for row in rows] == ["a4c", "psax"]
    assert rows[0]["learned"] == result.recall.learned
    assert rows[0]["flag_rate"] == asdict(result.privacy.flag_rate)
    assert rows[0]["paper"] == {"train": 2580, "learned": 794, "flag_rate": 0.00302, "learned_and_flagged": 3}
    assert (rows[1]["learned"], rows[1]["ratio"]) == (None, None)
    lines = markdown(ROWS | {"learned": rows}, origin=[]).splitlines()
    train, rate = result.sets["train"].clips, result.privacy.flag_rate
    assert "|  | A4C | PSAX |" in lines
    assert f"| train clips | {train:,} / 2,580 | {train:,} / 3,559 |" in lines
    ours = f"{result.recall.learned:,} ({result.recall.learned / train:.1%})"
    assert f"| learned | {ours} / 794 (30.8%) | – / 884 (24.8%) |" in lines
    flagged = f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    assert f"| flagged (“memorized”) | {flagged} / 0.3% | {flagged} / 2.5% |" in lines


def test_without_audits_there_is_no_table_4() -> None:
    assert "Table 4" not in markdown(ROWS | {"learned": []}, origin=[])
