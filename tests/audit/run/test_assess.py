"""From features to numbers, on places in feature space whose truth is known."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run.absent import attempt
from mnemoscope.audit.run.assess import Assessed, Clips, assess, attributes, first_frames
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.stages import SetFeatures
from mnemoscope.core.errors import DegenerateValues, InputError, TooFewSamples
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.search import WeightedL1

D, TRAIN, HOLDOUT, KNOWN = 12, 60, 60, 12
HEAD = WeightedL1(weight=-np.linspace(0.5, 1.5, D), bias=6.0)
CONFIG = AuditConfig()


def around(place: np.ndarray, rng: np.random.Generator, *, spread: float = 0.12, frames: int = 2) -> FrameFeatures:
    """Frames of a clip at each place (N, D)."""
    values = np.repeat(place, frames, axis=0) + rng.normal(0, spread, (len(place) * frames, D))
    clip = np.repeat(np.arange(len(place)), frames)
    return FrameFeatures(values.astype(np.float32), clip, np.tile(np.arange(frames), len(place)))


def table(name: str, owner: np.ndarray, **columns: object) -> pd.DataFrame:
    clip_id = [f"{name}{i:03d}" for i in range(len(owner))]
    return pd.DataFrame({"clip_id": clip_id, "patient_id": [f"{name}p{o:03d}" for o in owner], **columns})


class World:
    """Train and holdout patients with two clips each, and whom a sampler draws from."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.train_place = self.rng.normal(size=(TRAIN, D))
        self.owner = np.repeat(np.arange(TRAIN), 2)
        self.strangers = np.repeat(np.arange(HOLDOUT), 2)
        holdout_place = self.rng.normal(size=(HOLDOUT, D))
        self.train = around(self.train_place[self.owner], self.rng)
        self.holdout = around(holdout_place[self.strangers], self.rng)

    def assessed(self, synthetic: FrameFeatures, config: AuditConfig = CONFIG) -> Assessed:
        n = len(first_frames(synthetic))
        features = SetFeatures(train=self.train, holdout=self.holdout, synthetic=synthetic, verification=self.holdout)
        ef = np.where(self.owner < KNOWN, 25.0, 30.0 + self.owner / 2)
        train = table("t", self.owner, ef=ef, ward=np.where(self.owner % 2, "a", "b"))
        clips = Clips(train, table("h", self.strangers), table("s", np.arange(n)))
        return assess(features, clips, HEAD, config=config)

    def knowing(self, n: int = 200) -> FrameFeatures:
        drawn = self.rng.integers(KNOWN, size=n)
        return around(self.train_place[drawn], self.rng)

    def new(self, n: int = 200) -> FrameFeatures:
        return around(self.rng.normal(size=(n, D)), self.rng)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def knowing(world: World) -> Assessed:
    return world.assessed(world.knowing())


@pytest.fixture(scope="module")
def fresh(world: World) -> Assessed:
    return world.assessed(world.new())


def test_whom_the_sampler_knows_is_learned_exposed_and_counted(knowing: Assessed) -> None:
    ledger = knowing.ledger
    known = np.arange(TRAIN) < KNOWN
    assert knowing.privacy.flagged == 200
    np.testing.assert_array_equal(ledger.leaked, known)
    assert (ledger.exposure_p[known] < 0.01).all()
    assert (ledger.exposure_p[~known] == 1).all()
    share = knowing.recall.known_share
    assert share is not None
    assert share.low <= KNOWN / TRAIN <= share.high
    assert share.high < 0.35
    assert knowing.recall.learned <= 2 * KNOWN
    assert knowing.recall.matched is not None
    assert knowing.recall.matched.ratio.high < 1


def test_the_groups_that_were_learned_are_named(knowing: Assessed) -> None:
    groups = {(g.attribute, g.stratum): g for g in knowing.recall.subgroups}
    assert groups[("ef", "< 30")].clips == 2 * KNOWN
    assert groups[("ef", "< 30")].leaked.value > 0.9
    assert groups[("ef", "40–50")].leaked.value == 0
    assert {stratum for attribute, stratum in groups if attribute == "ward"} == {"a", "b"}


def test_copies_are_nearer_to_train_and_new_patients_are_not(knowing: Assessed, fresh: Assessed) -> None:
    assert knowing.privacy.nearer_to_train is not None
    assert knowing.privacy.nearer_to_train.share.value == 1
    assert knowing.privacy.nearer_to_train.p_value < 0.001
    assert knowing.privacy.copying is not None
    assert knowing.privacy.copying.p_value < 1e-6
    assert knowing.privacy.authentic_share is not None
    assert knowing.privacy.authentic_share.value < 0.02
    assert fresh.privacy.nearer_to_train is not None
    assert fresh.privacy.nearer_to_train.p_value > 0.01
    assert fresh.privacy.nearer_to_train.null_share == TRAIN / (TRAIN + HOLDOUT)
    assert fresh.privacy.copying is not None
    assert fresh.privacy.copying.p_value > 0.01


def test_a_perfect_sampler_recalls_as_innocents_do(fresh: Assessed) -> None:
    assert fresh.recall.matched is not None
    assert fresh.recall.matched.n == HOLDOUT
    assert fresh.recall.matched.ratio.low <= 1 <= fresh.recall.matched.ratio.high
    assert fresh.recall.irs_adjusted is not None
    assert fresh.recall.curves["synthetic"].n[-1] == 200
    assert fresh.recall.curves["synthetic"].expected[-1] == pytest.approx(fresh.recall.learned)
    assert fresh.recall.curves["holdout"].n[-1] == HOLDOUT
    assert fresh.recall.curves["holdout"].expected[-1] == pytest.approx(fresh.recall.matched.holdout.value)
    assert fresh.privacy.tau_interval is not None
    assert fresh.privacy.tau_interval.low <= fresh.privacy.tau <= fresh.privacy.tau_interval.high


def test_noise_has_learned_nobody_and_each_null_has_its_reason(world: World) -> None:
    far = around(20 + world.rng.normal(size=(50, D)), world.rng)
    found = world.assessed(far)
    assert (found.recall.gated, found.recall.learned, found.recall.learned_share) == (0, 0, 0.0)
    for name in ("chao1", "coverage_goodturing", "irs", "known_share", "hubness"):
        assert getattr(found.recall, name) is None
        assert found.absent[f"recall.{name}"]
    assert found.recall.matched is not None
    assert found.recall.matched.ratio.value == 0
    everything = world.assessed(far, CONFIG.model_copy(update={"gate_percentile": None}))
    assert (everything.recall.gate, everything.recall.gated) == (None, 50)
    assert everything.recall.learned > 0


def test_clips_that_look_like_no_real_one_are_not_counted_however_close(world: World) -> None:
    close = world.knowing(40)
    novelty = np.where(close.clip < 30, 1.0, 50.0)
    seen = replace(close, novelty=novelty)
    world_seen = World()
    world_seen.holdout = replace(world_seen.holdout, novelty=np.linspace(0.8, 1.2, len(world_seen.holdout.values)))
    found = world_seen.assessed(seen)
    assert (found.recall.unlike_real, found.recall.gated) == (10, 30)
    assert found.recall.novelty_limit is not None
    assert 1.2 < found.recall.novelty_limit < 50
    assert found.privacy.flagged == 40
    unseen = world.assessed(close)
    assert (unseen.recall.novelty_limit, unseen.recall.gated) == (None, 40)
    assert "too few train frames" in unseen.absent["recall.novelty_limit"]


def test_order_of_suspects_changes_no_number(world: World, knowing: Assessed) -> None:
    drawn = World().knowing()
    order = np.random.default_rng(1).permutation(200)
    shuffled = FrameFeatures(drawn.values.reshape(200, 2, D)[order].reshape(400, D), drawn.clip, drawn.frame)
    plain, mixed = World().assessed(drawn), World().assessed(shuffled)
    manifold = {"manifold": None}  # the sample of clips depends on their order only where there are more than it takes
    assert replace(mixed.privacy) == plain.privacy
    assert asdict(mixed.recall) | manifold == asdict(plain.recall) | manifold
    assert mixed.recall.manifold is not None
    assert plain.recall.manifold is not None
    assert mixed.recall.manifold.coverage == plain.recall.manifold.coverage
    np.testing.assert_array_equal(mixed.ledger.hits, plain.ledger.hits)


def test_one_clip_per_patient_leaves_the_known_share_out_with_the_remedy() -> None:
    world = World()
    world.owner = np.arange(2 * TRAIN)
    found = world.assessed(world.new(40))
    assert found.recall.known_share is None
    assert "two clips" in found.absent["recall.known_share"]
    assert "table.patient" in found.absent["recall.known_share"]


def test_a_known_share_that_could_be_anything_is_null_with_its_range() -> None:
    """New patients alone: everybody drawn by chance looks like everybody known."""
    world = World()
    found = world.assessed(world.new(60))
    assert found.recall.known_share is None
    assert "could be anything from" in found.absent["recall.known_share"]


def test_attributes_are_what_the_manifest_does_not_need() -> None:
    rows = pd.DataFrame(
        {
            "clip_id": ["a"],
            "patient_id": ["p"],
            "path": ["x"],
            "ef": [1.0],
            "view": [None],
            "first_frame": [0],
            "sex": ["F"],
        }
    )
    assert {name: values.tolist() for name, values in attributes(rows).items()} == {"ef": [1.0], "sex": ["F"]}


def test_attempt_notes_reasons_of_the_data_and_no_others() -> None:
    absent: dict[str, str] = {}

    def few() -> int:
        raise TooFewSamples("too few")

    def flat() -> int:
        raise DegenerateValues("flat")

    def wrong() -> int:
        raise InputError("wrong")

    assert attempt(absent, "a", lambda: 3) == 3
    assert attempt(absent, "b", few) is None
    assert attempt(absent, "c", flat) is None
    assert absent == {"b": "too few", "c": "flat"}
    with pytest.raises(InputError):
        attempt(absent, "d", wrong)
