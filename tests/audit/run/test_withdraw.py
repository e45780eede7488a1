from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run import stages
from mnemoscope.audit.run.withdraw import COLUMNS, clips_to_withdraw, withdrawal_table
from mnemoscope.core.errors import CorruptFile, InputError, Mismatch, MnemoscopeError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.data.dicom import hash_patient_id
from tests.audit.run.conftest import Tiny
from tests.reference.tiny_audit import COPIED, N_SYNTHETIC, SPLITS

N_TRAIN = SPLITS.count("train")
TRAIN_PATIENTS = [f"p{number:02d}" for number in range(N_TRAIN)]


def all_pairs(run: Path) -> np.ndarray:
    """Best logit of each synthetic clip with each train clip, (N, M), by the formula."""
    features = stages.load_features(run / "features")
    head = stages.load_reid(run / "reid" / "model").network.search_head()
    difference = np.abs(features.synthetic.values[:, None].astype(float) - features.train.values[None].astype(float))
    logits = head.bias + difference @ head.weight
    best = np.full((N_SYNTHETIC, N_TRAIN), -np.inf)
    np.maximum.at(best, (features.synthetic.clip[:, None], features.train.clip[None]), logits)
    return best


def by_brute_force(run: Path, patients: list[str]) -> dict[str, str]:
    """Clip → reason."""
    audit = read_json(run / "audit.json")
    tau, gate = audit["privacy"]["tau"], audit["recall"]["gate"]
    reasons = {}
    for number, row in enumerate(all_pairs(run)):
        theirs = row[[TRAIN_PATIENTS.index(name) for name in patients]].max()
        why = {"nearest": theirs == row.max() >= (-np.inf if gate is None else gate), "above tau": theirs > tau}
        if any(why.values()):
            reasons[f"s{number}"] = ", ".join(name for name, holds in why.items() if holds)
    return reasons


def found(run: Path, *patients: str, **options: Any) -> dict[str, str]:
    clips = clips_to_withdraw(run, patients, **options).clips
    return dict(zip(clips["clip_id"], clips["reason"], strict=True))


@pytest.mark.parametrize("patient", TRAIN_PATIENTS)
def test_the_list_is_that_of_all_pairs(finished: Tiny, patient: str) -> None:
    assert found(finished.out, patient) == by_brute_force(finished.out, [patient])


@pytest.mark.parametrize(("copy", "source"), COPIED.items())
def test_the_copies_of_a_patient_go_first(finished: Tiny, copy: str, source: int) -> None:
    withdrawal = clips_to_withdraw(finished.out, [f"p{source:02d}"])
    first = withdrawal.clips.iloc[0]
    assert (first["clip_id"], first["nearest_clip_id"], first["reason"]) == (
        copy,
        f"c{source:02d}",
        "nearest, above tau",
    )
    assert first["flagged"]
    nearest = withdrawal.clips.loc[withdrawal.clips["reason"].str.startswith("nearest"), "clip_id"]
    assert set(COPIED) & set(nearest) == {copy}
    assert (withdrawal.train_clips, withdrawal.synthetic_clips) == (1, N_SYNTHETIC)


def test_similarities_are_those_of_all_pairs_most_similar_first(finished: Tiny) -> None:
    best = all_pairs(finished.out)
    for number, patient in enumerate(TRAIN_PATIENTS):
        clips = clips_to_withdraw(finished.out, [patient]).clips
        rows = [int(name[1:]) for name in clips["clip_id"]]
        np.testing.assert_allclose(clips["similarity"], best[rows, number], atol=1e-5)
        assert clips["similarity"].is_monotonic_decreasing
        assert tuple(clips.columns) == COLUMNS


def test_several_patients_are_withdrawn_together(finished: Tiny) -> None:
    together = found(finished.out, "p03", "p00", "p03")
    assert together == by_brute_force(finished.out, ["p00", "p03"])
    assert set(together) == set(found(finished.out, "p00")) | set(found(finished.out, "p03"))
    assert clips_to_withdraw(finished.out, ["p03", "p00", "p03"]).patients == ["p03", "p00"]
    everybody = found(finished.out, *TRAIN_PATIENTS)
    assert everybody == by_brute_force(finished.out, TRAIN_PATIENTS)


def test_all_pairs_list_more_than_the_nearest_alone(again: Tiny) -> None:
    """With tau below everything, every clip is above tau for every patient, whoever is the nearest."""
    audit = read_json(again.out / "audit.json")
    audit["privacy"]["tau"] = -1e6
    write_json(again.out / "audit.json", audit)
    nearest = pd.read_parquet(again.out / "samples.parquet").set_index("clip_id")
    listed = found(again.out, "p00")
    assert len(listed) == N_SYNTHETIC
    for clip_id, reason in listed.items():
        row = nearest.loc[clip_id]
        assert ("nearest" in reason) == (row["nearest_patient_id"] == "p00" and row["gated"])


def test_nobody_has_to_go_where_nothing_is_near(again: Tiny) -> None:
    samples = pd.read_parquet(again.out / "samples.parquet")
    far = next(name for name in TRAIN_PATIENTS if name not in set(samples["nearest_patient_id"]))
    audit = read_json(again.out / "audit.json")
    audit["privacy"]["tau"] = 1e6
    write_json(again.out / "audit.json", audit)
    assert found(again.out, far) == {}


def test_reasons_by_hand() -> None:
    samples = pd.DataFrame({"clip_id": list("abcde"), "flagged": [True, True, False, False, False]})
    closest = pd.DataFrame({"clip_id": ["x", "y", "x", "x", "x"], "patient_id": "p"})
    table = withdrawal_table(
        samples,
        closest,
        np.array([3.0, 5.0, 3.0, 9.0, 1.0]),
        nearest=np.array([True, True, False, False, True]),
        above=np.array([True, False, True, False, False]),
    )
    assert table.to_dict("list") == {
        "clip_id": ["b", "a", "c", "e"],
        "nearest_clip_id": ["y", "x", "x", "x"],
        "nearest_patient_id": ["p"] * 4,
        "similarity": [5.0, 3.0, 3.0, 1.0],
        "flagged": [True, True, False, False],
        "reason": ["nearest", "nearest, above tau", "above tau", "nearest"],
    }


def test_an_unknown_patient_is_told_the_closest_ids(finished: Tiny) -> None:
    with pytest.raises(InputError, match=r"no 'p033'; closest: p03, .*\(--patient\)"):
        clips_to_withdraw(finished.out, ["p00", "p033"])
    with pytest.raises(InputError, match="found no 'p14'"):  # a holdout patient has nothing to withdraw here
        clips_to_withdraw(finished.out, ["p14"])
    with pytest.raises(InputError, match="at least one patient"):
        clips_to_withdraw(finished.out, [])


def test_a_salted_run_knows_the_hash_and_the_raw_id_with_its_salt(copied: Tiny, finished: Tiny) -> None:
    salt = "a secret of the house"
    copied.audit(patient_salt=salt)
    hashed = hash_patient_id("p03", salt=salt)
    assert found(copied.out, hashed) == found(copied.out, "p03", patient_salt=salt)
    assert "s3" in found(copied.out, hashed)
    with pytest.raises(InputError, match=r"keyed hashes.*--patient-salt"):
        clips_to_withdraw(copied.out, ["p03"])
    with pytest.raises(InputError, match="under this salt"):
        clips_to_withdraw(copied.out, ["p03"], patient_salt="another secret")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda run: cut(run / "features" / "train.npz"), CorruptFile, "train.npz: damaged"),
        (
            lambda run: (run / "features" / "synthetic.npz").unlink(),
            CorruptFile,
            "found none of synthetic; run the same",
        ),
        (lambda run: (run / "audit.json").unlink(), InputError, "expected a finished audit"),
        (lambda run: cut(run / "samples.parquet"), CorruptFile, "samples.parquet: expected a readable table"),
        (lambda run: cut(run / "reid" / "model" / "model.safetensors"), CorruptFile, "expected weights"),
        (lambda run: (run / "latents-real" / "store.json").unlink(), CorruptFile, "store.json"),
        (
            lambda run: pd.read_parquet(run / "samples.parquet").iloc[1:].to_parquet(run / "samples.parquet"),
            CorruptFile,
            "10 train and 7 synthetic clips, found 10 and 8",
        ),
    ],
)
def test_a_damaged_run_is_refused(again: Tiny, damage: Any, error: type[MnemoscopeError], words: str) -> None:
    damage(again.out)
    with pytest.raises(error, match=words):
        clips_to_withdraw(again.out, ["p00"])


def test_features_of_another_model_are_refused(again: Tiny) -> None:
    config = again.out / "reid" / "model" / "config.json"
    write_json(config, read_json(config) | {"preset": "paper"})
    with pytest.raises(Mismatch, match="since then the re-identification model changed"):
        clips_to_withdraw(again.out, ["p00"])
