"""The run: every arm, every seed, one kept stage each, then the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mnemoscope.core.config import Config, build, merged
from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.core.files import sha256_of, value_fingerprint, whole_file, write_json, write_text
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.data.transform import FrameTransform
from mnemoscope.downstream.regress import PREDICTIONS, Material, read_clips, too_small, train_and_test
from mnemoscope.downstream.results import DownstreamResult, summarise
from mnemoscope.downstream.sets import PixelSet, measured_ef, open_sets, require_ef
from mnemoscope.downstream.subsets import MATCHED, Arm, decomposing_arms, paper_arms, relabelled, with_errors
from mnemoscope.downstream.table import markdown
from mnemoscope.models.device import usable_device
from mnemoscope.models.ef import load_ef
from mnemoscope.models.ef_readers import ef_reader
from mnemoscope.release.audited import Audited, listed
from mnemoscope.training.ef import LEAST_CLIPS, PRESETS, SIDE_PX, EfTraining, Preset

RESULT, TABLE = "downstream.json", "table5.md"
_TEACHER = "real_full"  # its regressor relabels
_WITHOUT_READER = (
    "nothing measures the true EF of the synthetic clips; name a reader (--ef-reader; in reproduce --set "
    "downstream.ef_reader=…)"
)


class DownstreamConfig(Config):
    """What a synthetic set is worth to train an EF regressor on.

    Attributes:
        preset: small (two minutes of a core for each training), or paper.
        ef: changes to the preset's recipe, such as ef.loop.epochs=20.
        seeds: trainings of each arm.
        relabel: synthetic clips have the EF requested (off), that a regressor of real clips reads (on), or both.
        ef_reader: what measures the true EF of synthetic clips, for the parts of the gap: phantom, or a model's folder.
        arms: only these; null for all.
        val_share: share of an arm's patients, or train patients behind its clips, that choose its network.
        side_px: of the frames, where folders are given; null takes the preset's.
        target_fps: of the clips, where folders are given; null keeps theirs.
        seed: of subsets, weights, order and resampling.
        device: torch device.
    """

    preset: Preset = "small"
    ef: dict[str, Any] = Field(default_factory=dict)
    seeds: int = Field(3, ge=1)
    relabel: Literal["off", "on", "both"] = "both"
    ef_reader: str | None = None
    arms: tuple[str, ...] | None = None
    val_share: float = Field(0.15, gt=0, lt=1)
    side_px: int | None = Field(None, ge=1)
    target_fps: float | None = Field(None, gt=0)
    seed: int = 0
    device: str = "cpu"

    def recipe(self) -> EfTraining:
        """The resolved recipe."""
        return build(EfTraining, merged(PRESETS[self.preset]().model_dump(), self.ef), prefix="ef.")

    def frames(self) -> FrameTransform:
        """Size and rate of the pixels."""
        side = self.side_px or SIDE_PX[self.preset]
        return FrameTransform(height=side, width=side, target_fps=self.target_fps)


@dataclass(frozen=True)
class _Scene:
    """All that a training needs.

    Attributes:
        run: keeps the trainings.
        sets: by source.
        clips: by source, see :func:`_candidates`.
        test: the real holdout.
        measured: true EF of the usable synthetic clips by id; None without a reader.
        config: settings.
        recipe: of every training.
        progress: told how far a training is.
    """

    run: Run
    sets: Mapping[str, PixelSet]
    clips: Mapping[str, pd.DataFrame]
    test: pd.DataFrame
    measured: pd.Series | None
    config: DownstreamConfig
    recipe: EfTraining
    progress: Progress


def run_downstream(
    run: Run,
    *,
    real: Path,
    synthetic: Path,
    audited: Audited,
    config: DownstreamConfig,
    selected: Sequence[str] | None = None,
    progress: Progress = unwatched,
) -> DownstreamResult:
    """Trains every arm with every seed, tests all on the real holdout, and writes ``downstream.json`` and Table 5.

    Args:
        run: the run's folder; finished trainings in it are reused where what they depend on is unchanged.
        real: folder of the real clips that were audited, or an image-space store of them.
        synthetic: likewise.
        audited: the audit of these two; its flagged clips are left out.
        config: settings.
        selected: ids of the clips that are to be released; they become an arm.
        progress: told how far the stages are.

    Raises:
        MnemoscopeError: before anything is trained, if sets, audit or settings do not allow all arms.
    """
    usable_device(config.device)
    recipe = config.recipe()
    if recipe.start is not None and not Path(recipe.start).is_file():
        raise ConfigError(f"ef.start={recipe.start}: expected a file of weights, found none; correct the path")
    if config.ef_reader is not None:
        ef_reader(config.ef_reader)
    _require_labels(audited, real, synthetic)
    clips = _candidates(audited, selected)
    _require_arms(clips, config)
    of_real, of_synthetic = open_sets(
        run, real=real, synthetic=synthetic, audited=audited, frames=config.frames(), progress=progress
    )
    test = of_real.store.of_split("holdout")
    measured = None
    if config.ef_reader is not None:
        ids = clips["synthetic"]["clip_id"].tolist()
        measured = measured_ef(run, config.ef_reader, of_synthetic, ids, progress)
    sets = {"real": of_real, "synthetic": of_synthetic}
    scene = _Scene(run, sets, clips, test, measured, config, recipe, progress)
    plans, absent = _trainable(clips, _plans(clips, measured, config), config)
    absent |= _absent(clips, plans[0], measured)
    predictions: dict[str, list[pd.DataFrame]] = {name: [] for name in plans[0]}
    for number, plan in enumerate(plans):
        for name, arm in plan.items():
            predictions[name].append(_prediction(scene, name, arm, config.seed + number, plan))
    result = summarise(plans[0], predictions, absent=absent, seed=config.seed)
    write_json(run.out / RESULT, result.to_json())
    write_text(run.out / TABLE, f"# Training an EF regressor, preset {config.preset}\n\n{markdown(result)}\n")
    return result


def _require_labels(audited: Audited, real: Path, synthetic: Path) -> None:
    """Before hours of encoding: the sets must have the labels that the audit saw, so these are looked at."""
    table = audited.real
    require_ef(table[table["split"].isin(["train", "holdout"])], flag=f"--real {real}")
    usable = audited.samples.index[~audited.samples["flagged"]]
    require_ef(audited.synthetic_labels.loc[usable].reset_index(), flag=f"--synthetic {synthetic}")


def _candidates(audited: Audited, selected: Sequence[str] | None) -> dict[str, pd.DataFrame]:
    """What arms are made of, by source: ``clip_id``, ``ef`` and ``group``, the clips that must stay together.

    Of synthetic clips the unflagged ones, also ``nearest_clip_id`` and ``gated``, and ``selected`` where a selection is
    given; those closest to one train patient are one group.
    """
    table = audited.real
    train = table[table["split"] == "train"]
    usable = audited.samples[~audited.samples["flagged"]]
    ef = audited.synthetic_labels.loc[usable.index].to_numpy()
    found = usable[["nearest_clip_id", "nearest_patient_id", "gated"]].assign(ef=ef).reset_index()
    if selected is not None:
        flagged = sorted(set(selected) - set(usable.index))
        if flagged:
            raise InputError(
                f"--select: expected unflagged clips, which alone are trained on, found {len(flagged)} flagged: "
                f"{listed(flagged)}; leave them out"
            )
        found["selected"] = found["clip_id"].isin(selected)
    return {
        "real": train[["clip_id", "ef"]].assign(group=train["patient_id"]),
        "synthetic": found.rename(columns={"nearest_patient_id": "group"}),
    }


def _require_arms(clips: Mapping[str, pd.DataFrame], config: DownstreamConfig) -> None:
    """Before hours of encoding: all arms must be known and large enough, as far as EF requested tells."""
    stand_in = clips["synthetic"].set_index("clip_id")["ef"] if config.ef_reader is not None else None
    plans = _plans(clips, stand_in, config)
    # How many clips can have one distribution of EF is known when their true EF is.
    _trainable(clips, [{name: arm for name, arm in plan.items() if name not in MATCHED} for plan in plans], config)


def _plans(
    clips: Mapping[str, pd.DataFrame], measured: pd.Series | None, config: DownstreamConfig
) -> list[dict[str, Arm]]:
    """The arms of each seed, by name."""
    return [_plan(clips, measured, config, config.seed + number) for number in range(config.seeds)]


def _plan(
    clips: Mapping[str, pd.DataFrame], measured: pd.Series | None, config: DownstreamConfig, seed: int
) -> dict[str, Arm]:
    """The arms of one seed, by name; the arm that relabels comes first."""
    given = paper_arms(clips["real"], clips["synthetic"], seed=seed)
    arms = dict(given)
    if config.relabel != "off":
        arms |= relabelled(given)
    if config.relabel == "on":
        arms = {name: arm for name, arm in arms.items() if (arm.source, arm.labels) != ("synthetic", "given")}
    if measured is not None:
        arms |= decomposing_arms(clips["real"], clips["synthetic"], measured, seed=seed)
    if config.arms is None:
        return arms
    unknown = set(config.arms) - set(arms)
    if unknown or not config.arms:
        raise ConfigError(f"arms: expected some of {', '.join(arms)}, found {', '.join(sorted(unknown)) or 'none'}")
    teacher = any(arms[name].labels == "relabelled" for name in config.arms)
    return {name: arm for name, arm in arms.items() if name in config.arms or (teacher and name == _TEACHER)}


def _trainable(
    clips: Mapping[str, pd.DataFrame], plans: list[dict[str, Arm]], config: DownstreamConfig
) -> tuple[list[dict[str, Arm]], dict[str, str]]:
    """The plans, if every arm can be trained, and why some of the gap's parts are absent."""
    found = {
        name: why
        for plan in plans
        for name, arm in plan.items()
        if (why := too_small(_chosen(clips, arm), val_share=config.val_share))
    }
    absent = {}
    if config.arms is None and found.keys() & set(MATCHED):
        absent["prior"] = (
            f"too few synthetic clips can have the EF distribution of the real ones, by true EF ({found['prior']})"
        )
        plans = [{name: arm for name, arm in plan.items() if name not in MATCHED} for plan in plans]
        found = {name: why for name, why in found.items() if name not in MATCHED}
    if found:
        others = ",".join(name for name in plans[0] if name not in found)
        instead = f", or train other arms only (--set arms=[{others}])" if others else ""
        raise TooFewSamples(
            f"expected at least {LEAST_CLIPS} clips to train on beside those that choose the network, of two patients "
            f"or more, in every arm; found {', '.join(f'{name}: {why}' for name, why in found.items())}; give more "
            f"clips, or fewer to choose by (--val-share, now {config.val_share:g}){instead}"
        )
    return plans, absent


def _absent(clips: Mapping[str, pd.DataFrame], plan: Mapping[str, Arm], measured: pd.Series | None) -> dict[str, str]:
    absent = {}
    sizes = [len(clips[name]) for name in ("synthetic", "real")]
    if sizes[0] <= sizes[1]:
        absent["synthetic_random"] = f"{sizes[0]} usable synthetic clips are no more than the {sizes[1]} real ones"
    if measured is None:
        absent["decomposition"] = _WITHOUT_READER
    return {name: why for name, why in absent.items() if name not in plan}


def _chosen(clips: Mapping[str, pd.DataFrame], arm: Arm) -> pd.DataFrame:
    """The candidates of an arm in the order of ids."""
    table = clips[arm.source]
    return table[table["clip_id"].isin(arm.clips)].sort_values("clip_id")


def _rows(scene: _Scene, arm: Arm) -> pd.DataFrame:
    """The stored clips of an arm in the order of ids, with their groups and their labels as given."""
    chosen = _chosen(scene.clips, arm)
    return scene.sets[arm.source].rows(chosen["clip_id"].tolist()).assign(group=chosen["group"].to_numpy())


def _labelled(scene: _Scene, arm: Arm, seed: int, plan: Mapping[str, Arm]) -> pd.DataFrame:
    """The clips of an arm with the EF to learn."""
    rows = _rows(scene, arm)
    if arm.labels == "given":
        return rows
    if arm.labels == "noisy":
        return rows.assign(ef=_noisy(scene, rows["ef"].to_numpy(np.float64), seed))
    values = scene.measured if arm.labels == "measured" else _relabels(scene, seed, plan)
    assert values is not None  # arms with measured labels are planned where there is a reader alone
    return rows.assign(ef=values.loc[rows["clip_id"]].to_numpy())


def _noisy(scene: _Scene, ef: np.ndarray, seed: int) -> np.ndarray:
    assert scene.measured is not None
    requested = scene.clips["synthetic"].set_index("clip_id")["ef"]
    measured = scene.measured.dropna()
    return with_errors(
        ef,
        requested=requested.loc[measured.index].to_numpy(np.float64),
        measured=measured.to_numpy(np.float64),
        rng=generator(seed, "downstream", "noisy"),
    )


def _relabels(scene: _Scene, seed: int, plan: Mapping[str, Arm]) -> pd.Series:
    """EF that the regressor of all real clips, of this seed, reads off the usable synthetic ones; kept."""
    teacher, key = _trained(scene, _TEACHER, plan[_TEACHER], seed, plan)
    of_synthetic = scene.sets["synthetic"]
    rows = of_synthetic.rows(scene.clips["synthetic"]["clip_id"].tolist())

    def make(folder: Path) -> None:
        model = load_ef(teacher / "model", device=scene.config.device)
        values = read_clips(model, of_synthetic.store, rows)
        with whole_file(folder / "ef.parquet") as temporary:
            values.rename_axis("clip_id").rename("ef").reset_index().to_parquet(temporary, index=False)

    inputs = {"teacher": key, "clips": rows["clip_id"].tolist(), "store": of_synthetic.store.fingerprint}
    folder = scene.run.stage(f"relabelled-{seed}", inputs, make)
    return pd.read_parquet(folder / "ef.parquet").set_index("clip_id")["ef"]


def _prediction(scene: _Scene, name: str, arm: Arm, seed: int, plan: Mapping[str, Arm]) -> pd.DataFrame:
    return pd.read_parquet(_trained(scene, name, arm, seed, plan)[0] / PREDICTIONS)


def _trained(scene: _Scene, name: str, arm: Arm, seed: int, plan: Mapping[str, Arm]) -> tuple[Path, str]:
    """The folder of one finished training, and what decided it."""
    config, store, test = scene.config, scene.sets[arm.source].store, scene.sets["real"].store
    material = Material(
        store=store,
        clips=_labelled(scene, arm, seed, plan),
        recipe=scene.recipe,
        val_share=config.val_share,
        seed=seed,
        device=config.device,
    )
    learnt = material.clips[["clip_id", "ef", "group"]]
    inputs = {
        "store": store.fingerprint,
        "clips": learnt.to_dict("list"),
        "test": [test.fingerprint, scene.test[["clip_id", "ef"]].to_dict("list")],
        "recipe": scene.recipe.model_dump(mode="json"),
        "val_share": config.val_share,
        "seed": seed,
    }
    if scene.recipe.start is not None:
        inputs["start"] = sha256_of(Path(scene.recipe.start))

    def told(stage: str, done: int, total: int, unit: str) -> None:
        scene.progress(f"{name}, seed {seed}", done, total, unit)

    def make(folder: Path) -> None:
        train_and_test(material, test, scene.test, folder, progress=told)

    return scene.run.stage(f"{name}-{seed}", inputs, make), value_fingerprint(inputs)
