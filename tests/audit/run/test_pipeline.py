import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run import pipeline, results, stages
from mnemoscope.core.errors import CorruptFile, InputError, Mismatch, MnemoscopeError, OutOfSpace
from mnemoscope.core.files import read_json, write_json
from mnemoscope.core.progress import Progress
from mnemoscope.core.types import AuditResult
from tests.audit.run.conftest import Tiny
from tests.reference.tiny_audit import COPIED, N_SYNTHETIC, SETTINGS, SPLITS, drifting, write_clip

ENCODED = {"check-real", "latents-real", "latents-altered", "check-synthetic", "latents-synthetic"}
LOOKED = {"features", "ladder", "evidence-synthetic", "evidence-holdout"}
KEPT = ENCODED | LOOKED | {"reid", "probes"}
NUMBERS = {"audit", "assess"}
Stopping = Callable[[str, int], Progress]


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(run / name)


# What comes out


def test_copies_are_the_most_similar_of_all_and_lead_to_their_patients(finished: Tiny) -> None:
    samples = table(finished.out, results.SAMPLES).set_index("clip_id")
    copies = samples.loc[list(COPIED)]
    assert copies["nearest_clip_id"].tolist() == [f"c{source:02d}" for source in COPIED.values()]
    assert copies["nearest_patient_id"].tolist() == [f"p{source:02d}" for source in COPIED.values()]
    assert copies["flagged"].all()
    assert copies["p_max"].min() > samples.drop(index=list(COPIED))["p_max"].max()


def test_p_max_is_the_best_frame_pair_by_brute_force(finished: Tiny) -> None:
    """Every frame of the gallery against every frame of the query, from the pixels on."""
    model = stages.load_reid(finished.out / "reid" / "model")
    head = model.network.search_head()

    def features(patient: int) -> np.ndarray:
        return model.embed(drifting(patient)[[0, 3], None]).astype(np.float64)

    gallery = np.concatenate([features(patient) for patient in range(SPLITS.count("train"))])
    samples = table(finished.out, results.SAMPLES).set_index("clip_id")
    for number in range(N_SYNTHETIC):
        query = features(COPIED.get(f"s{number}", 1000 + number))
        logits = head.bias + np.abs(query[:, None] - gallery[None]) @ head.weight.astype(np.float64)
        row = samples.loc[f"s{number}"]
        assert row["p_max"] == pytest.approx(logits.max(), abs=1e-5)
        assert row["nearest_clip_id"] == f"c{logits.max(axis=0).argmax() // 2:02d}"


def test_each_synthetic_clip_keeps_the_hash_of_its_file(finished: Tiny) -> None:
    samples = table(finished.out, results.SAMPLES).set_index("clip_id")
    for number in range(N_SYNTHETIC):
        content = (finished.synthetic / f"s{number}.avi").read_bytes()
        assert samples.loc[f"s{number}", "sha256"] == hashlib.sha256(content).hexdigest()


def test_the_tables_and_the_numbers_agree(finished: Tiny) -> None:
    written = finished.written
    samples, holdout = table(finished.out, results.SAMPLES), table(finished.out, results.HOLDOUT)
    patients = table(finished.out, results.PATIENTS)
    tau = written["privacy"]["tau"]
    assert tau == np.percentile(holdout["p_max"], 80)
    assert samples["flagged"].tolist() == (samples["p_max"] > tau).tolist()
    assert written["privacy"]["flagged"] == samples["flagged"].sum()
    assert written["recall"]["learned"] == samples["learned_for"].nunique()
    assert written["recall"]["gate"] == np.percentile(holdout["p_max"], 5)
    assert set(patients.loc[patients["leaked"], "patient_id"]) == set(
        samples.loc[samples["flagged"], "nearest_patient_id"]
    )
    assert written["sets"] == {
        "train": {"clips": 10, "patients": 10},
        "holdout": {"clips": 6, "patients": 6},
        "synthetic": {"clips": 8, "patients": 8},
    }
    assert written["power"]["other_frame"]["tpr"] is not None
    assert written["gallery"] == {
        "train_frames": 2,
        "query_frames": 2,
        "altered_frames": 2,
        "initial_weights": "random",
    }


def test_what_was_written_reads_back_and_meets_its_schema(finished: Tiny) -> None:
    jsonschema.validate(finished.written, results.audit_schema())
    result = AuditResult.from_json(finished.written)
    assert result.to_json() | {"schema": finished.written["schema"]} == {
        **finished.written,
        "reid": finished.written["reid"] | {"confusion": result.to_json()["reid"]["confusion"]},
    }
    assert AuditResult.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: a.pop("verdict"),
        lambda a: a.update(schema="mnemoscope.audit/2"),
        lambda a: a["verdict"].update(not_tested=[]),
        lambda a: a["verdict"].update(status="maybe"),
        lambda a: a["privacy"].update(p_value=-0.1),
        lambda a: a["privacy"].update(flag_rate=0.5),
        lambda a: a["recall"].update(learned=-1),
        lambda a: a.update(extra=1),
    ],
)
def test_a_wrong_audit_does_not_meet_the_schema(finished: Tiny, damage: Callable[[dict[str, Any]], object]) -> None:
    values = finished.written
    damage(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, results.audit_schema())


def test_a_number_that_is_none_is_never_written(again: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = again.written
    wrong = again.audit()
    wrong = replace(wrong, result=replace(wrong.result, privacy=replace(wrong.result.privacy, tau=float("nan"))))
    with pytest.raises(ValueError, match="not JSON compliant"):
        pipeline.write_audit(again.out, wrong, csv=False)
    assert again.written == before


# What is reused


def test_an_unchanged_call_reuses_every_stage_and_says_so(again: Tiny, finished: Tiny) -> None:
    assert finished.remade() == KEPT | NUMBERS
    made = again.audit()
    assert again.remade() == NUMBERS
    assert again.written == finished.written
    assert AuditResult.from_json(again.written) == made.result


@pytest.mark.parametrize(
    ("changes", "remade", "found"),
    [
        ({"percentile": 60.0}, set(), lambda a: a["privacy"]["percentile"] == 60.0),
        ({"gate_percentile": None}, set(), lambda a: a["recall"]["gate"] is None),
        ({"fdr_rate": 0.9}, set(), lambda a: a["privacy"]["fdr_rate"] == 0.9),
        ({"query_frames": 1}, LOOKED, lambda a: a["gallery"]["query_frames"] == 1),
        ({"train_frames": "all"}, LOOKED, lambda a: "other_frame" not in a["power"] and "exact" in a["power"]),
        ({"ladder_copies": 3}, {"ladder"}, lambda a: a["power"]["exact"]["copies"] == 3),
        ({"evidence_pairs": 0}, set(), lambda a: "--evidence-pairs" in a["absent"]["privacy.evidence"]),
        ({"probe_clips": 5}, {"probes"}, lambda a: a["probes"] is not None),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it_alone(
    again: Tiny, changes: dict[str, Any], remade: set[str], found: Callable[[dict[str, Any]], bool]
) -> None:
    again.audit(**changes)
    assert again.remade() == NUMBERS | remade
    assert found(again.written)


def test_a_changed_suspect_leaves_the_real_side_alone(copied: Tiny, finished: Tiny) -> None:
    write_clip(copied.synthetic / "s1.avi", 9)
    copied.audit()
    assert copied.remade() == NUMBERS | {"check-synthetic", "latents-synthetic", "features", "evidence-synthetic"}
    row = table(copied.out, results.SAMPLES).set_index("clip_id").loc["s1"]
    assert (row["nearest_clip_id"], bool(row["flagged"])) == ("c09", True)


def test_order_of_files_and_rows_changes_nothing(copied: Tiny, finished: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.read_csv(copied.real / "clips.csv", dtype=str)
    rows.iloc[::-1].to_csv(copied.real / "clips.csv", index=False)
    plain = os.walk

    def backwards(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, names in plain(top):
            yield place, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    copied.audit()
    assert copied.remade() == NUMBERS
    assert copied.written == finished.written


# What is interrupted


def test_an_audit_stopped_twice_ends_with_the_numbers_of_an_undisturbed_one(
    fresh: Tiny, finished: Tiny, stopping: Stopping
) -> None:
    recipe = {"reid": SETTINGS["reid"] | {"loop": SETTINGS["reid"]["loop"] | {"checkpoint_every_steps": 1}}}
    for stage, done in (("encode real", 7), ("train", 3)):
        with pytest.raises(KeyboardInterrupt):
            fresh.audit(progress=stopping(stage, done), **recipe)
        assert read_json(fresh.out / "run.json")["status"] == "failed"
    visible = {path.name for path in fresh.out.iterdir() if not path.name.startswith(".")}
    assert visible == {"run.json", "problems-real.csv", "problems-synthetic.csv", *ENCODED}
    steps: list[int] = []
    fresh.audit(progress=lambda stage, done, *_: steps.append(done) if stage == "train" else None, **recipe)
    assert steps[0] == 3
    assert len(steps) > 1
    assert fresh.written == finished.written
    assert read_json(fresh.out / "run.json")["status"] == "done"


def test_a_full_disk_leaves_nothing_under_a_final_name(again: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(again.out / "features")
    (again.out / "audit.json").unlink()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OutOfSpace, match="disk is full; what was finished before stays"):
            again.audit()
    assert not (again.out / "features").exists()
    assert not (again.out / "audit.json").exists()
    again.audit()
    assert again.remade() == NUMBERS | {"features"}


# Stores in place of folders


def stores(finished: Tiny, tmp_path: Path) -> Tiny:
    for name in ("real", "synthetic"):
        shutil.copytree(finished.out / f"latents-{name}", tmp_path / f"store-{name}")
    return Tiny(tmp_path / "store-real", tmp_path / "store-synthetic", tmp_path / "run")


def numbers(tiny: Tiny) -> dict[str, Any]:
    return {name: value for name, value in tiny.written.items() if name != "gallery"}


def test_stores_and_a_ready_model_give_the_same_numbers(finished: Tiny, tmp_path: Path) -> None:
    given = stores(finished, tmp_path)
    made = given.audit(reid_model=finished.out / "reid" / "model")
    assert (made.real_files, made.synthetic_files) == (None, None)
    assert given.remade() == NUMBERS | {"features", "ladder"}
    assert_alike(given, finished)
    # What needs pixels says so.
    assert given.written["probes"] is None
    for name in ("probes", "privacy.evidence", "power.gain"):
        assert "latents" in given.written["absent"][name]
    folder = replace(given, synthetic=finished.synthetic, out=tmp_path / "mixed")
    folder.audit(reid_model=finished.out / "reid" / "model")
    assert folder.remade() == NUMBERS | {"features", "ladder", "check-synthetic", "latents-synthetic"}
    assert_alike(folder, finished)


def assert_alike(given: Tiny, finished: Tiny) -> None:
    """Every number that the latents alone carry."""
    mine, theirs = numbers(given), numbers(finished)
    for name in ("sets", "reid", "recall", "consistency"):
        assert mine[name] == theirs[name]
    assert mine["privacy"] | {"evidence": None} == theirs["privacy"] | {"evidence": None}
    shown = set(mine["power"]) - {"minimum_detectable_share"}
    assert shown == {"exact", "neighbouring_frame", "other_frame"} & set(theirs["power"])
    assert {name: mine["power"][name] for name in shown} == {name: theirs["power"][name] for name in shown}
    copies = f"{len(COPIED)} synthetic clips are real clips, frame by frame"
    assert all(side["verdict"]["reasons"][0].startswith(copies) for side in (mine, theirs))


def test_clips_that_are_real_clips_frame_by_frame_are_counted_in_the_verdict(finished: Tiny) -> None:
    verdict = numbers(finished)["verdict"]
    assert verdict["status"] == "fail"
    assert verdict["reasons"][0].startswith(f"{len(COPIED)} synthetic clips are real clips")


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = read_json(file)
    change(values)
    write_json(file, values)


def resplit(store: Path) -> None:
    clips = pd.read_parquet(store / "clips.parquet")
    clips.assign(split="train").to_parquet(store / "clips.parquet", index=False)


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (lambda g: resplit(g.synthetic), InputError, "in the split synthetic, found train; .*--split synthetic"),
        (lambda g: resplit(g.real), InputError, "expected train, val and holdout clips, found 19 train"),
        (
            lambda g: edit(g.synthetic / "store.json", lambda v: v.update(height=64)),
            Mismatch,
            r"\(32, 32, None\), the synthetic ones \(64, 32, None\); .*frames\.height",
        ),
        (
            lambda g: edit(g.synthetic / "store.json", lambda v: v.update(encoder="another")),
            Mismatch,
            "encoded by another VAE .*--vae",
        ),
        (
            lambda g: edit(g.synthetic / "store.json", lambda v: v["scaling"].update(high=[300.0])),
            Mismatch,
            "other scaling constants",
        ),
        (lambda g: (g.real / "store.json").write_text("{"), CorruptFile, r"store\.json"),
        (lambda g: (g.real / "clips.parquet").write_bytes(b"PAR1"), CorruptFile, "encode the set again"),
    ],
)
def test_stores_that_do_not_fit_are_refused(
    finished: Tiny,
    tmp_path: Path,
    damage: Callable[[Tiny], object],
    kind: type[MnemoscopeError],
    words: str,
) -> None:
    given = stores(finished, tmp_path)
    damage(given)
    with pytest.raises(kind, match=words):
        given.audit(reid_model=finished.out / "reid" / "model")
    assert not (given.out / "audit.json").exists()


# Damage inside the run's folder


def overwritten(file: Path) -> None:
    middle = file.stat().st_size // 2
    with file.open("r+b") as opened:
        opened.seek(middle)
        opened.write(b"\xff" * 64)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("features/train.npz", "delete .*features and run the same command again"),
        ("reid/model/model.safetensors", r"model"),
        ("reid/model/config.json", r"config\.json"),
        ("latents-real/store.json", r"store\.json"),
        ("check-real/manifest.parquet", r"manifest\.parquet"),
    ],
)
def test_damage_to_a_finished_stage_is_named(again: Tiny, name: str, words: str) -> None:
    file = again.out / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=words):
        again.audit()


def test_damaged_frames_are_named(again: Tiny) -> None:
    shards = [file for file in (again.out / "latents-real" / "frames.zarr").rglob("*") if file.name != "zarr.json"]
    overwritten(max((file for file in shards if file.is_file()), key=lambda file: file.stat().st_size))
    with pytest.raises(CorruptFile, match="encode the set again"):
        again.audit(train_frames=1)


def test_a_damaged_checkpoint_is_named_with_the_remedy(again: Tiny, stopping: Stopping) -> None:
    with pytest.raises(KeyboardInterrupt):
        again.audit(seed=5, progress=stopping("train", 4))
    (checkpoint,) = again.out.glob(".partial-reid-*/training/checkpoint.pt")
    checkpoint.write_bytes(b"junk")
    with pytest.raises(CorruptFile, match=r"checkpoint\.pt: .*delete it to start this training again"):
        again.audit(seed=5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["scaling"].update(high=[300.0]), "other scaling constants than re-identification model"),
        (lambda v: v["architecture"].update(space="latent"), "holds image frames, .* takes latent"),
        (lambda v: v["architecture"].update(channels=4), "size mismatch for model.0.weight"),
    ],
)
def test_a_model_of_other_latents_is_refused(
    finished: Tiny, again: Tiny, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    shutil.copytree(finished.out / "reid" / "model", tmp_path / "model")
    edit(tmp_path / "model" / "config.json", change)
    with pytest.raises(InputError, match=words):
        again.audit(reid_model=tmp_path / "model")
