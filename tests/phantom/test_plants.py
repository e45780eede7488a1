import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.data.ladder import RUNGS
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from mnemoscope.phantom.plants import (
    PERTURBATIONS,
    PlantSpec,
    plan,
    read_truth,
    render_plant,
    truth_path,
    write_plants,
)

COHORT = CohortSpec(n_patients=16, clips_per_patient=2, n_frames=2, seed=5)
PLANTS = PlantSpec(n_copies=8, n_fresh=8, n_partial=12, known_share=0.25, n_frames=2, seed=3)


def profile(frames: np.ndarray) -> np.ndarray:
    """A coarse first frame of zero mean and unit length."""
    coarse = gaussian_filter(frames[0].astype(float), 2.5)[::2, ::2].ravel()
    return (coarse - coarse.mean()) / np.linalg.norm(coarse - coarse.mean())


def likeness(queries: list[np.ndarray], gallery: list[np.ndarray]) -> np.ndarray:
    return np.stack([profile(frames) for frames in queries]) @ np.stack([profile(frames) for frames in gallery]).T


def test_every_kind_is_planted_as_often_as_asked():
    kinds = pd.Series([plant.kind for plant in plan(COHORT, PLANTS)]).value_counts()
    assert kinds.to_dict() == {"copy": 8, "fresh": 8, "partial": 12}


def test_copies_take_perturbations_in_turn_and_come_from_different_train_clips():
    train = {clip.clip_id for clip in clips(COHORT) if clip.split == "train"}
    copies = [plant for plant in plan(COHORT, PLANTS) if plant.kind == "copy"]
    assert pd.Series([plant.perturbation for plant in copies]).value_counts().to_dict() == dict.fromkeys(
        ("exact", "gain", "noise", "shift"), 2
    )
    sources = [plant.source.clip_id for plant in copies]
    assert len(set(sources)) == len(sources)
    assert set(sources) <= train


def test_the_sampler_knows_only_its_share_of_the_train_patients():
    plants = PlantSpec(n_copies=0, n_fresh=0, n_partial=400, known_share=0.25)
    known = {plant.source.patient_id for plant in plan(COHORT, plants)}
    train = {clip.patient_id for clip in clips(COHORT) if clip.split == "train"}
    assert known <= train
    assert len(known) == round(0.25 * len(train))


def test_ids_say_nothing_about_the_kind():
    planted = plan(COHORT, PLANTS)
    assert [plant.clip_id for plant in planted] == [f"SYN{index:06d}" for index in range(28)]
    copies = np.array([plant.kind == "copy" for plant in planted])
    assert copies[:8].sum() < 8
    assert np.abs(np.diff(copies.astype(int))).sum() > 4


def test_copies_resemble_their_source_far_more_than_anything_else():
    train = [clip for clip in clips(COHORT) if clip.split == "train"]
    gallery = [render(COHORT, clip).frames for clip in train]
    copies = [plant for plant in plan(COHORT, PLANTS) if plant.kind == "copy"]
    scores = likeness([render_plant(COHORT, PLANTS, plant).frames for plant in copies], gallery)
    source = np.array([[clip.clip_id for clip in train].index(plant.source.clip_id) for plant in copies])
    np.testing.assert_array_equal(scores.argmax(axis=1), source)
    mates = np.array([[clip.patient_id == plant.source.patient_id for clip in train] for plant in copies])
    others = np.where(mates, -1.0, scores).max(axis=1)
    assert np.all(scores[np.arange(len(copies)), source] > others + 0.02)


def test_an_exact_copy_is_the_train_clip():
    copy = next(plant for plant in plan(COHORT, PLANTS) if plant.perturbation == "exact")
    np.testing.assert_array_equal(render_plant(COHORT, PLANTS, copy).frames, render(COHORT, copy.source).frames)


def test_variation_leads_away_from_the_patient():
    def mean_error(variation: float) -> float:
        plants = PlantSpec(n_copies=0, n_fresh=0, n_partial=6, variation=variation, n_frames=1, seed=3)
        errors = [
            abs(render_plant(COHORT, plants, plant).edv - render(COHORT, plant.source).edv)
            for plant in plan(COHORT, plants)
        ]
        return float(np.mean(errors))

    assert mean_error(0.0) == pytest.approx(0.0, abs=1e-9)
    assert 0.0 < mean_error(0.2) < mean_error(1.0)


def test_fresh_patients_are_nobody_in_the_cohort():
    enrolled = {round(render(COHORT, clip).edv, 6) for clip in clips(COHORT)[::2]}
    fresh = [render_plant(COHORT, PLANTS, plant).edv for plant in plan(COHORT, PLANTS) if plant.kind == "fresh"]
    assert len({round(edv, 6) for edv in fresh}) == 8
    assert not {round(edv, 6) for edv in fresh} & enrolled


def test_every_rung_that_needs_nothing_else_can_be_planted_and_changes_its_copy():
    assert set(PERTURBATIONS) == set(RUNGS) - {"vae_round_trip", "blend"}
    plants = PlantSpec(n_copies=16, n_fresh=0, n_frames=16, seed=3, copy_perturbations=PERTURBATIONS[1:])
    cohort = CohortSpec(n_patients=40, n_frames=16, seed=5)
    for plant in plan(cohort, plants):
        source, copy = render(cohort, plant.source).frames, render_plant(cohort, plants, plant).frames
        assert copy.shape == source.shape, plant.perturbation
        assert copy.dtype == np.uint8
        assert not np.array_equal(copy, source), plant.perturbation


def test_a_copy_that_is_moved_in_time_shows_frames_of_its_source():
    """Of 8 frames every second one is the gallery's; half of that distance further lies the next."""
    plants = PlantSpec(n_copies=1, n_fresh=0, n_frames=8, copy_perturbations=("other_frame",))
    cohort = CohortSpec(n_patients=8, n_frames=8, seed=5)
    (plant,) = plan(cohort, plants)
    moved = np.roll(render(cohort, plant.source).frames, -1, axis=0)
    np.testing.assert_array_equal(render_plant(cohort, plants, plant).frames, moved)


def test_the_truth_lies_beside_the_folder_and_not_in_it(tmp_path):
    few = PlantSpec(n_copies=2, n_fresh=2, n_partial=2, n_frames=1)
    folders = [write_plants(COHORT, few, tmp_path / f"syn{workers}", workers=workers) for workers in (1, 2)]
    lists = [(folder / "FileList.csv").read_bytes() for folder in folders]
    assert lists[0] == lists[1]
    videos = [{path.name: path.read_bytes() for path in (folder / "Videos").iterdir()} for folder in folders]
    assert videos[0] == videos[1]
    listed, truth = pd.read_csv(folders[0] / "FileList.csv"), read_truth(truth_path(folders[0]))
    assert list(listed["FileName"]) == list(truth["clip_id"])
    assert set(listed["Split"]) == {"SYNTHETIC"}
    assert not any("copy" in path.read_text() for path in folders[0].glob("*.csv"))
    sourced = truth.set_index("clip_id")["source_clip_id"]
    assert (sourced[truth.set_index("clip_id")["kind"] == "copy"] != "").all()
    assert (truth.loc[truth["kind"] == "fresh", ["source_clip_id", "source_patient_id"]] == "").all(axis=None)
    assert (truth.loc[truth["kind"] == "partial", "source_patient_id"] != "").all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_copies": -1}, "--copies"),
        ({"n_copies": 0, "n_fresh": 0}, "--fresh"),
        ({"n_frames": 0}, "n_frames=0"),
        ({"known_share": 0.0}, "--known-share"),
        ({"variation": 1.5}, "--variation"),
        ({"copy_perturbations": ("sepia",)}, "copy_perturbations="),
        ({"copy_perturbations": ("vae_round_trip",)}, "copy_perturbations="),
        ({"copy_perturbations": ()}, "copy_perturbations="),
    ],
)
def test_a_wrong_planting_is_refused_with_the_flag(wrong, message):
    with pytest.raises(ConfigError, match=message):
        PlantSpec(**wrong)


def test_more_copies_than_train_clips_are_refused():
    with pytest.raises(TooFewSamples, match=r"500 copies.*--copies"):
        plan(COHORT, PlantSpec(n_copies=500))


def test_a_sampler_needs_somebody_to_know():
    nobody = CohortSpec(n_patients=3, val_share=0.4, holdout_share=0.5)
    with pytest.raises(TooFewSamples, match=r"the cohort has 0.*--patients"):
        plan(nobody, PlantSpec(n_copies=0, n_partial=1))


def test_a_truth_that_is_absent_or_foreign_is_refused(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        read_truth(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="found a, b"):
        read_truth(tmp_path / "other.csv")
