from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, InputError, Mismatch, TooFewSamples
from mnemoscope.core.files import read_json
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import extract_features
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import (
    BUNDLED_FOLDER,
    CONFIG_FILE,
    WEIGHTS_FILE,
    Reid,
    ReidArchitecture,
    load_reid,
)
from mnemoscope.training import reid
from mnemoscope.training.loop import LoopConfig, train
from mnemoscope.training.reid import (
    PRESETS,
    Pairs,
    PairSampler,
    ReidTask,
    ReidTraining,
    batch_loss,
    pair_loss,
    train_reid,
)
from tests.reference import pair_losses
from tests.toys import ToyClip, write_store
from tests.training.launching import launch

ARCHITECTURE = ReidArchitecture(
    backbone="small", stem="dense", head="monotone", scaling="standard", channels=2, features=16
)
LOOP = LoopConfig(epochs=1, batch_size=8, learning_rate=3e-3, clip_gradient_norm=1.0, checkpoint_every_steps=1000)
RECIPE = ReidTraining(architecture=ARCHITECTURE, loop=LOOP)
FEATURES = 6


def clip_rows(counts: list[int], patients: list[int]) -> pd.DataFrame:
    """A clip table as a store has it, the patients given by number."""
    first = np.cumsum([0, *counts[:-1]])
    names = [f"p{p}" for p in patients]
    return pd.DataFrame({"first_frame": first, "n_frames": counts, "patient_id": names, "split": "train"})


def clip_of(rows: pd.DataFrame, frame: int) -> int:
    return int(np.searchsorted(rows["first_frame"], frame, side="right")) - 1


ROWS = clip_rows([5, 1, 3, 7, 2, 4, 6, 1], [0, 0, 1, 2, 0, 3, 1, 4])
TABLES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), min_size=2, max_size=9).filter(
    lambda clips: len({patient for _, patient in clips}) > 1
)


def sampler(
    rows: pd.DataFrame = ROWS, *, positives: str = "patient", mixed: bool = False, seed: int = 0
) -> PairSampler:
    return PairSampler(rows, positives=positives, mixed=mixed, seed=seed)


def drawn(pairs: Pairs) -> np.ndarray:
    return np.stack([pairs.anchor, pairs.partner, pairs.anchor_patient, pairs.partner_patient], axis=1)


@pytest.mark.parametrize("mixed", [True, False])
def test_a_pair_depends_on_seed_epoch_and_index_alone(mixed: bool) -> None:
    pairs, indices = sampler(mixed=mixed), np.arange(8)
    whole = drawn(pairs.draw(3, indices, purpose="pairs"))
    np.random.default_rng(0).random()
    shuffled = np.array([5, 0, 7, 2, 6, 1, 4, 3])
    np.testing.assert_array_equal(drawn(pairs.draw(3, shuffled, purpose="pairs")), whole[shuffled])
    one_by_one = np.concatenate([drawn(pairs.draw(3, indices[[i]], purpose="pairs")) for i in reversed(range(8))])
    np.testing.assert_array_equal(one_by_one[::-1], whole)
    others = [
        pairs.draw(4, indices, purpose="pairs"),
        pairs.draw(3, indices, purpose="validation"),
        sampler(mixed=mixed, seed=1).draw(3, indices, purpose="pairs"),
    ]
    assert all((drawn(other) != whole).any() for other in others)


def test_no_indices_give_no_pairs() -> None:
    assert drawn(sampler().draw(0, np.arange(0), purpose="pairs")).shape == (0, 4)


@given(clips=TABLES, positives=st.sampled_from(["clip", "patient"]), mixed=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_frames_lie_in_clips_of_the_patients_they_are_said_to_show(
    clips: list[tuple[int, int]], positives: str, mixed: bool, seed: int
) -> None:
    rows = clip_rows([n for n, _ in clips], [p for _, p in clips])
    pairs = sampler(rows, positives=positives, mixed=mixed, seed=seed).draw(0, np.arange(len(rows)), purpose="pairs")
    patients, _ = pd.factorize(rows["patient_id"], sort=True)
    for index, (anchor, partner, anchor_patient, partner_patient) in enumerate(drawn(pairs)):
        a, b = clip_of(rows, anchor), clip_of(rows, partner)
        assert a == index
        assert (patients[a], patients[b]) == (anchor_patient, partner_patient)
        same = anchor_patient == partner_patient
        assert same or mixed
        assert a == b or not same or positives == "patient"
        assert anchor != partner or rows["n_frames"][a] == 1


def counts_of(draw: Callable[[int], int], repeats: int) -> dict[int, int]:
    values, counts = np.unique([draw(i) for i in range(repeats)], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class Fixed:
    """A generator whose next integer is known."""

    def __init__(self, value: int) -> None:
        self.value = value

    def integers(self, high: int) -> int:
        assert 0 <= self.value < high
        return self.value


@given(TABLES)
def test_every_stranger_has_the_same_chance(clips: list[tuple[int, int]]) -> None:
    rows = clip_rows([n for n, _ in clips], [p for _, p in clips])
    pairs = sampler(rows)
    for clip in range(len(rows)):
        others = np.flatnonzero(pairs.patient != pairs.patient[clip]).tolist()
        assert [pairs._stranger(clip, Fixed(i)) for i in range(len(others))] == others


def test_every_other_frame_of_a_clip_has_the_same_chance() -> None:
    pairs = sampler(positives="clip")
    for frame in range(5):
        found = [pairs._other_frame(0, frame, 0, Fixed(i)) for i in range(4)]
        assert sorted(found) == [other for other in range(5) if other != frame]
    assert pairs._other_frame(1, 0, 1, Fixed(0)) == 0
    assert [pairs._other_frame(0, 2, 4, Fixed(i)) for i in range(2)] == [0, 1]


@given(count=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_partner_of_the_same_clip_lies_at_least_a_quarter_of_it_away(count: int, seed: int) -> None:
    pairs = sampler(clip_rows([count, 3], [0, 1]))
    least = max(1, count // 4)
    rng = generator(seed, "test")
    frame = int(rng.integers(count))
    found = {pairs._other_frame(0, frame, 0, rng) for _ in range(20 * count)}
    far = {other for other in range(count) if min((other - frame) % count, (frame - other) % count) >= least}
    assert found == far


def test_clips_of_the_patient_have_the_same_chance() -> None:
    pairs = sampler()
    found = counts_of(lambda i: pairs._relative(0, generator(0, "test", i)), 3000)
    assert set(found) == {0, 1, 4}
    assert all(abs(count - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for count in found.values())
    assert counts_of(lambda i: pairs._relative(3, generator(0, "test", i)), 5) == {3: 5}
    by_clip = sampler(positives="clip")
    assert counts_of(lambda i: by_clip._relative(0, generator(0, "test", i)), 5) == {0: 5}


def test_half_of_mixed_pairs_show_strangers() -> None:
    pairs, epochs = sampler(mixed=True), 300
    found = [pairs.draw(epoch, np.arange(8), purpose="pairs") for epoch in range(epochs)]
    strangers = sum(int((p.anchor_patient != p.partner_patient).sum()) for p in found)
    assert abs(strangers - 4 * epochs) < 5 * (8 * epochs) ** 0.5 / 2


@pytest.mark.parametrize(("patients", "split"), [([0, 0, 0], "train"), ([2], "val")])
def test_one_patient_alone_is_refused(patients: list[int], split: str) -> None:
    rows = clip_rows([3] * len(patients), patients).assign(split=split)
    with pytest.raises(
        TooFewSamples, match=rf"expected {split} clips of at least two patients.*found 1.*--set table\.patient="
    ):
        sampler(rows)


@cache
def head_network() -> Reid:
    """A small head; its backbone is never called."""
    with named_weights(1, "head"):
        return Reid(ARCHITECTURE.model_copy(update={"features": FEATURES, "head": "free"}))


def batch_of(patients: list[tuple[int, int]], seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    anchor, partner = torch.rand(2, len(patients), FEATURES, generator=g) * 4
    numbers = torch.tensor(patients).reshape(-1, 2)
    return anchor, partner, numbers[:, 0], numbers[:, 1]


def head_values(head: Reid) -> tuple[np.ndarray, float]:
    return head.head_weight().detach().double().numpy(), float(head.fc_end.bias.detach()[0])


@given(
    patients=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=7),
    seed=st.integers(0, 999),
)
def test_the_loss_of_pairs_is_that_of_brute_force(patients: list[tuple[int, int]], seed: int) -> None:
    head, batch = head_network(), batch_of(patients, seed)
    found = float(pair_loss(head, *batch).detach())
    expected = pair_losses.pair_loss(batch[0].numpy(), batch[1].numpy(), patients, *head_values(head))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(patients=st.lists(st.integers(0, 3), min_size=1, max_size=7), seed=st.integers(0, 999))
def test_the_loss_of_a_batch_is_that_of_brute_force(patients: list[int], seed: int) -> None:
    both = [(p, p) for p in patients]
    head, batch = head_network(), batch_of(both, seed)
    found = float(batch_loss(head, *batch).detach())
    expected = pair_losses.batch_loss(batch[0].numpy(), batch[1].numpy(), both, *head_values(head))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("patients", [[0], [0, 0, 0], [0, 0, 1]])
def test_rows_without_strangers_have_finite_gradients(patients: list[int]) -> None:
    anchor, partner, a, b = batch_of([(p, p) for p in patients], 0)
    anchor.requires_grad_(True)
    loss = batch_loss(head_network(), anchor, partner, a, b)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(anchor.grad).all())
    assert bool((anchor.grad != 0).any())


def patterns(patients: int, *, clips: int = 1, frames: int = 4, noise: float = 0.2) -> dict[str, ToyClip]:
    """A pattern of large squares for each patient plus noise in every frame; a third of the patients is for val."""
    made = {}
    for patient in range(patients):
        pattern = np.kron(generator(0, "pattern", patient).normal(size=(2, 2, 2)), np.ones((1, 4, 4)))
        for clip in range(clips):
            shown = pattern + noise * generator(0, "noise", patient, clip).normal(size=(frames, 2, 8, 8))
            split = ("train", "train", "val")[patient % 3]
            made[f"p{patient:02d}c{clip}"] = ToyClip(shown.astype(np.float16), f"p{patient:02d}", split)
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return write_store(tmp_path_factory.mktemp("reid") / "store", patterns(9, clips=2))


def with_changes(**changes: Any) -> ReidTraining:
    return build(ReidTraining, RECIPE.model_dump() | changes)


def task_of(store: LatentStore, recipe: ReidTraining = RECIPE) -> ReidTask:
    with named_weights(0, "task"):
        network = Reid(recipe.architecture)
    clips = {"train_clips": store.of_split("train"), "val_clips": store.of_split("val")}
    return ReidTask(network, store.frame_pool(), store.record.scaling, recipe=recipe, seed=0, **clips)


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_a_batch_holds_the_scaled_frames_of_its_pairs(store: LatentStore, scaling: str) -> None:
    recipe = with_changes(architecture=ARCHITECTURE.model_dump() | {"scaling": scaling})
    batch = task_of(store, recipe).batch(2, np.array([3, 0]))
    pairs = PairSampler(store.of_split("train"), positives="patient", mixed=False, seed=0)
    expected = pairs.draw(2, np.array([3, 0]), purpose="pairs")
    frames = store.read(0, store.n_frames)
    for side in ("anchor", "partner"):
        scaled = store.record.scaling.apply(frames[getattr(expected, side)], scaling)
        np.testing.assert_array_equal(batch[side].numpy(), scaled)
        np.testing.assert_array_equal(batch[f"{side}_patient"].numpy(), getattr(expected, f"{side}_patient"))


@pytest.mark.parametrize(("least", "rounds"), [(0, 1), (1, 1), (12, 1), (13, 2), (36, 3), (37, 4)])
def test_clips_are_gone_through_as_often_as_the_least_number_of_pairs_needs(
    store: LatentStore, least: int, rounds: int
) -> None:
    stage = task_of(store, with_changes(least_pairs=least))
    rows = store.of_split("train")
    assert (len(rows), stage.examples()) == (12, 12 * rounds)
    pairs = stage._train.draw(0, np.arange(stage.examples()), purpose="pairs")
    anchors = np.searchsorted(rows["first_frame"], pairs.anchor, side="right") - 1
    np.testing.assert_array_equal(anchors, np.tile(np.arange(12), rounds))
    assert len({tuple(pair) for pair in drawn(pairs)}) > 12 * (rounds - 1)


@pytest.mark.parametrize(("objective", "mixed"), [("pairs", True), ("batch", False)])
def test_the_objective_chooses_loss_and_pairs(store: LatentStore, objective: str, mixed: bool) -> None:
    stage = task_of(store, with_changes(objective=objective))
    batches = [stage.batch(epoch, np.arange(8)) for epoch in range(3)]
    differ = any(bool((b["anchor_patient"] != b["partner_patient"]).any()) for b in batches)
    assert differ is mixed
    network = stage.network.eval()
    with torch.inference_mode():
        features = [network(batches[0][side]) for side in ("anchor", "partner")]
        loss = pair_loss if mixed else batch_loss
        expected = loss(network, *features, batches[0]["anchor_patient"], batches[0]["partner_patient"])
        assert float(stage.loss(network, batches[0], 0)) == pytest.approx(float(expected), rel=1e-5)


def test_logits_stay_in_float32_under_mixed_precision(store: LatentStore) -> None:
    stage = task_of(store)
    batch, network = stage.batch(0, np.arange(8)), stage.network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        anchor, partner = network(torch.cat([batch["anchor"], batch["partner"]])).float().chunk(2)
        found = stage.loss(network, batch, 0)
    patients = [(int(p), int(q)) for p, q in zip(batch["anchor_patient"], batch["partner_patient"], strict=True)]
    expected = pair_losses.batch_loss(anchor.numpy(), partner.numpy(), patients, *head_values(network))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_validation_uses_the_same_pairs_every_epoch(store: LatentStore, batch_size: int) -> None:
    recipe = with_changes(objective="pairs", loop=LOOP.model_copy(update={"batch_size": batch_size}).model_dump())
    stage = task_of(store, recipe)
    network, cpu = stage.network.eval(), torch.device("cpu")
    with torch.inference_mode():
        figures = stage.validate(network, cpu)
        assert stage.validate(network, cpu) == figures
        expected = task_of(store, with_changes(objective="pairs")).validate(network, cpu)
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_validation_is_the_mean_over_val_pairs(store: LatentStore) -> None:
    stage = task_of(store, with_changes(objective="pairs"))
    rows = store.of_split("val")
    pairs = PairSampler(rows, positives="patient", mixed=True, seed=0)
    losses = []
    with torch.inference_mode():
        network = stage.network.eval()
        for round_ in range(reid._VALIDATION_ROUNDS):
            p = pairs.draw(round_, np.arange(len(rows)), purpose="validation pairs")
            x = [store.record.scaling.apply(store.frames(numbers), "standard") for numbers in (p.anchor, p.partner)]
            features = [network(torch.from_numpy(side)).numpy() for side in x]
            patients = list(zip(p.anchor_patient.tolist(), p.partner_patient.tolist(), strict=True))
            losses.append(pair_losses.pair_loss(*features, patients, *head_values(network)))
        found = stage.validate(network, torch.device("cpu"))["loss"]
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def verification_auc(model: Any, store: LatentStore, split: str) -> float:
    """Share of (same, different) pairs of frames that the logits put in the right order, by counting."""
    found = extract_features(store, store.of_split(split), model.embed, frames_per_clip=3)
    patient = store.of_split(split)["patient_id"].to_numpy()[found.clip]
    x = torch.from_numpy(found.values)
    logits = model.network.logits(x[:, None], x[None]).detach().numpy()
    i, j = np.triu_indices(len(x), k=1)
    same, different = logits[i, j][patient[i] == patient[j]], logits[i, j][patient[i] != patient[j]]
    return float((same[:, None] > different[None]).mean() + 0.5 * (same[:, None] == different[None]).mean())


@pytest.mark.parametrize(("objective", "head", "least_auc"), [("pairs", "free", 0.9), ("batch", "monotone", 0.98)])
def test_patients_are_told_apart_after_training(tmp_path: Path, objective: str, head: str, least_auc: float) -> None:
    easy = write_store(tmp_path / "store", patterns(48))
    loop = LOOP.model_copy(update={"epochs": 10, "batch_size": 16, "schedule": "cosine", "learning_rate": 0.01})
    architecture = ARCHITECTURE.model_copy(update={"head": head}).model_dump()
    recipe = with_changes(objective=objective, architecture=architecture, loop=loop.model_dump())
    model, state = train_reid(easy, recipe, tmp_path / "out", seed=0)
    assert verification_auc(model, easy, "val") > least_auc
    assert state.best_loss == min(row["val_loss"] for row in state.history)
    loaded = load_reid(tmp_path / "out" / "model")
    np.testing.assert_array_equal(loaded.embed(easy.read(0, 5)), model.embed(easy.read(0, 5)))
    assert (loaded.preset, loaded.scaling) == (recipe.preset, easy.record.scaling)
    loaded.require_store(easy)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(store: LatentStore, tmp_path: Path) -> None:
    def features(folder: str, seed: int) -> np.ndarray:
        return train_reid(store, RECIPE, tmp_path / folder, seed=seed)[0].embed(store.read(0, 4))

    first = features("a", 0)
    torch.randn(3)
    np.testing.assert_array_equal(features("b", 0), first)
    assert (features("c", 1) != first).any()


def test_mixed_precision_leaves_the_model_that_was_saved(store: LatentStore, tmp_path: Path) -> None:
    recipe = with_changes(loop=LOOP.model_copy(update={"precision": "bf16"}).model_dump())
    model, _ = train_reid(store, recipe, tmp_path, seed=0)
    np.testing.assert_array_equal(load_reid(tmp_path / "model").embed(store.read(0, 4)), model.embed(store.read(0, 4)))


def test_frames_read_from_disk_give_the_same_training(store: LatentStore, tmp_path: Path) -> None:
    weights = []
    for limit_bytes in (0, 1 << 30):
        stage = task_of(store)
        stage._frames = store.frame_pool(limit_bytes=limit_bytes)
        train(stage, LOOP, tmp_path / str(limit_bytes), seed=0)
        weights.append(torch.cat([p.detach().flatten() for p in stage.network.parameters()]))
    assert torch.equal(*weights)


def altered_store(folder: Path, store: LatentStore, *, noise: float = 0.5) -> LatentStore:
    """Two noisy frames of each clip of a store, under its constants."""
    clips = {}
    for row, frames in store.clips_of(store.clips):
        shaken = frames[[0, 2]] + noise * generator(1, "altered", row["clip_id"]).normal(size=(2, *frames.shape[1:]))
        clips[f"altered-{row['clip_id']}"] = ToyClip(shaken.astype(np.float16), row["patient_id"], row["split"])
    return write_store(folder, clips, scaling=store.record.scaling)


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
@pytest.mark.parametrize("chosen", [[0, 71, 72, 107, 72, 3], [5, 2], [80], []])
def test_altered_frames_follow_those_of_the_store(
    store: LatentStore, tmp_path: Path, limit_bytes: int, chosen: list[int]
) -> None:
    altered = altered_store(tmp_path / "altered", store)
    everything = np.concatenate([store.read(0, store.n_frames), altered.read(0, altered.n_frames)])
    pool, clips = reid._joined(store, altered)
    pool = reid._Joined(*(s.frame_pool(limit_bytes=limit_bytes) for s in (store, altered)), store.n_frames)
    numbers = np.array(chosen, dtype=np.int64)
    np.testing.assert_array_equal(pool[numbers], everything[numbers])
    assert len(clips) == 2 * len(store.clips)
    for _, row in clips.iterrows():
        owner = altered if row["clip_id"].startswith("altered") else store
        own = owner.clips[owner.clips["clip_id"] == row["clip_id"]].iloc[0]
        first = row["first_frame"]
        np.testing.assert_array_equal(everything[first : first + row["n_frames"]], owner.clip(own))


def test_altered_frames_are_paired_with_those_of_their_patient(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[ReidTask] = []
    monkeypatch.setattr(reid, "train", lambda task, *_, **__: tasks.append(task))
    altered = altered_store(tmp_path / "altered", store)
    train_reid(store, RECIPE, tmp_path / "out", altered=altered, seed=0)
    assert tasks[0].examples() == 2 * len(store.of_split("train"))
    of_frame = np.concatenate([np.repeat(s.clips["patient_id"], s.clips["n_frames"]) for s in (store, altered)])
    pairs = [tasks[0]._train.draw(epoch, np.arange(tasks[0].examples()), purpose="pairs") for epoch in range(4)]
    anchor, partner = (np.concatenate([getattr(p, side) for p in pairs]) for side in ("anchor", "partner"))
    assert (of_frame[anchor] == of_frame[partner]).all()
    assert ((anchor < store.n_frames) & (partner >= store.n_frames)).any()


def test_altered_frames_of_other_constants_are_refused(store: LatentStore, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", patterns(6, noise=0.9))
    with pytest.raises(Mismatch, match="other scaling constants than the store of the unaltered clips"):
        train_reid(store, RECIPE, tmp_path / "out", altered=other, seed=0)


def test_no_val_clips_are_refused_with_the_remedy(tmp_path: Path) -> None:
    clips = {name: clip for name, clip in patterns(6).items() if clip.split == "train"}
    with pytest.raises(InputError, match=r"no val clips.*val"):
        train_reid(write_store(tmp_path / "store", clips), RECIPE, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("train_patients", "val_patients", "split"), [(1, 3, "train"), (3, 1, "val"), (0, 4, "train")])
def test_one_patient_in_a_split_is_refused(tmp_path: Path, train_patients: int, val_patients: int, split: str) -> None:
    splits = ["train"] * train_patients + ["val"] * val_patients
    clips = {
        name: ToyClip(clip.frames, clip.patient, split)
        for (name, clip), split in zip(patterns(4).items(), splits, strict=True)
    }
    constants = write_store(tmp_path / "other", patterns(2)).record.scaling
    with pytest.raises(TooFewSamples, match=f"expected {split} clips of at least two patients"):
        train_reid(write_store(tmp_path / "store", clips, scaling=constants), RECIPE, tmp_path / "out", seed=0)


def state_files(folder: Path, start: dict[str, torch.Tensor]) -> Path:
    save_file({name: value.contiguous() for name, value in start.items()}, folder / "start.safetensors")
    return folder / "start.safetensors"


@pytest.mark.parametrize("kind", ["imagenet_weights", "checkpoint"])
def test_training_starts_from_the_given_weights(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    architecture = ARCHITECTURE.model_copy(update={"head": "free"})
    with named_weights(77, "start"):
        source = Reid(architecture)
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter)
    file = state_files(tmp_path, (source.model if kind == "imagenet_weights" else source).state_dict())
    seen: list[dict[str, torch.Tensor]] = []

    def not_training(task: ReidTask, *_: object, **__: object) -> None:
        seen.append({name: value.clone() for name, value in task.network.state_dict().items()})

    monkeypatch.setattr(reid, "train", not_training)
    recipe = with_changes(architecture=architecture.model_dump(), **{kind: file})
    train_reid(store, recipe, tmp_path / "out", seed=0)
    own = seen[0]
    given = {name for name, value in source.state_dict().items() if torch.equal(own[name], value)}
    fresh = (
        {"model.fc.weight", "model.fc.bias", "fc_end.weight", "fc_end.bias"} if kind == "imagenet_weights" else set()
    )
    assert own.keys() - given == fresh


@pytest.mark.parametrize(
    ("initial", "few", "encoder", "begun"),
    [
        ("auto", 100, "bundled", "bundled"),
        ("auto", 1, "bundled", "random"),
        ("auto", 100, "toy", "random"),
        ("random", 100, "bundled", "random"),
        ("bundled", 1, "bundled", "bundled"),
    ],
)
def test_few_patients_begin_with_the_bundled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initial: str, few: int, encoder: str, begun: str
) -> None:
    begun_with: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(reid, "FEW_PATIENTS", few)
    monkeypatch.setattr(reid, "train", lambda task, *_, **__: begun_with.append(dict(task.network.state_dict())))
    clips = {
        name: ToyClip(np.tile(clip.frames, (1, 2, 1, 1))[:, :, :8, :8], clip.patient, clip.split)
        for name, clip in patterns(6).items()
    }
    store = write_store(tmp_path / "store", clips)
    config = read_json(BUNDLED_FOLDER / CONFIG_FILE)
    store.record = replace(store.record, encoder=config["encoder"] if encoder == "bundled" else encoder)
    recipe = PRESETS["default"](space="latent", channels=4).model_copy(update={"initial": initial})
    model, _ = train_reid(store, recipe, tmp_path / "out", seed=0)
    assert model.initial == begun
    assert load_reid(tmp_path / "out" / "model").initial == begun
    given = load_file(BUNDLED_FOLDER / WEIGHTS_FILE)["fc_end.weight"].float()
    assert torch.equal(begun_with[0]["fc_end.weight"], given) is (begun == "bundled")


CHANGES: dict[str, Any] = {
    "preset": "paper",
    "architecture": ARCHITECTURE.model_dump() | {"features": 8},
    "positives": "clip",
    "objective": "pairs",
    "least_pairs": 100,
    "loop": LOOP.model_copy(update={"learning_rate": 1e-4}).model_dump(),
}
LOADED = {"imagenet_weights", "checkpoint", "initial"}


def trace(store: LatentStore, folder: Path, recipe: ReidTraining) -> tuple[object, ...]:
    model, state = train_reid(store, recipe, folder, seed=0)
    return model.preset, model.embed(store.read(0, 2)).shape, state.best_loss


@pytest.fixture(scope="module")
def base_trace(store: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    return trace(store, tmp_path_factory.mktemp("base"), RECIPE)


@pytest.mark.parametrize("name", sorted(ReidTraining.model_fields.keys() - LOADED))
def test_every_setting_changes_the_training(
    store: LatentStore, tmp_path: Path, base_trace: tuple[object, ...], name: str
) -> None:
    assert trace(store, tmp_path, with_changes(**{name: CHANGES[name]})) != base_trace


def test_the_same_settings_give_the_same_training(
    store: LatentStore, tmp_path: Path, base_trace: tuple[object, ...]
) -> None:
    assert trace(store, tmp_path, with_changes()) == base_trace


def test_the_presets_are_those_of_paper_and_design() -> None:
    paper = PRESETS["paper"](space="latent", channels=4)
    assert (paper.positives, paper.objective, paper.architecture.head) == ("clip", "pairs", "free")
    assert (paper.loop.batch_size, paper.loop.learning_rate, paper.loop.patience_epochs) == (1024, 5e-4, 150)
    image = PRESETS["paper"](space="image", channels=1).loop
    assert (image.batch_size, image.learning_rate, image.patience_epochs, image.epochs) == (128, 1e-4, 50, 1000)
    default = PRESETS["default"](space="latent", channels=4)
    assert (default.positives, default.objective, default.architecture.head) == ("patient", "batch", "monotone")
    assert default.architecture.scaling == "standard"


@pytest.mark.parametrize("change", [{"positives": "frame"}, {"objective": "triplet"}, {"epochs": 3}])
def test_unknown_settings_are_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        with_changes(**change)


TWO = """
import json, os, sys
from pathlib import Path
from mnemoscope.latents.store import LatentStore
from mnemoscope.training.reid import train_reid
from tests.training.test_reid import RECIPE, LOOP, with_changes

out, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
loop = LOOP.model_copy(update={"epochs": 2, "patience_epochs": 1}).model_dump()
store = LatentStore(out.parent / "store")
model, state = train_reid(store, with_changes(objective="pairs", loop=loop), out, seed=0)
sums = [float(p.detach().double().sum()) for p in model.network.parameters()]
(out / f"{rank}.json").write_text(json.dumps({"sums": sums, "history": state.history}))
"""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    write_store(tmp_path / "store", patterns(12))
    first, second = launch(TWO, tmp_path / "two", processes=2)
    assert first["sums"] == second["sums"]
    assert [row["val_loss"] for row in first["history"]] == [row["val_loss"] for row in second["history"]]
    saved = load_reid(tmp_path / "two" / "model").network
    assert [float(p.detach().double().sum()) for p in saved.parameters()] == first["sums"]
