"""Findings: from stores and a model to the finished audit, every test in its turn."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import mnemoscope.audit.run.confirm as confirm
import mnemoscope.audit.run.sources as sources
import mnemoscope.audit.run.stages as stages
import mnemoscope.audit.run.together as together
from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.power import FPR_LEVELS, minimum_detectable_share, true_positive_rates
from mnemoscope.audit.run.absent import Absent, attempt
from mnemoscope.audit.run.assess import Assessed, Clips, assess
from mnemoscope.audit.run.planted import Copies, planted_matches
from mnemoscope.audit.run.probes import shortcut_probes
from mnemoscope.audit.run.results import Finished
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.tables import patient_table, query_table
from mnemoscope.audit.run.verify import set_sizes, verification
from mnemoscope.audit.verdict import decide, not_tested
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.files import sha256_of
from mnemoscope.core.progress import Progress
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import AuditResult, Consistency, Evidence, Power, Probe, RungPower, rungs
from mnemoscope.latents.encode import FrameEncoder
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel
from mnemoscope.search import Head

Files = dict[str, Path]


@dataclass(frozen=True)
class Scene:
    """All that the tests look at.

    Attributes:
        run: keeps what takes long.
        real: store of the real clips.
        synthetic: store of the synthetic clips.
        real_files: where the real clips lie, by clip_id; None where only latents were given.
        synthetic_files: likewise.
        altered: whether altered frames joined the training.
        encoder: what encoded the real clips; None where only latents were given.
        model: the re-identification model.
        model_key: its fingerprint.
        config: settings.
        progress: told how far the tests are.
    """

    run: Run
    real: LatentStore
    synthetic: LatentStore
    real_files: Files | None
    synthetic_files: Files | None
    altered: bool
    encoder: FrameEncoder | None
    model: ReidModel
    model_key: str
    config: AuditConfig
    progress: Progress


def find(scene: Scene) -> Finished:
    """Runs every test that the data allow; of each other one the result says why it is absent."""
    config, head = scene.config, scene.model.network.search_head()
    clips = Clips(
        train=scene.real.of_split("train"),
        holdout=scene.real.of_split("holdout"),
        synthetic=scene.synthetic.of_split("synthetic"),
    )
    watch: Absent = {}
    watched = attempt(watch, "consistency", lambda: together.watched(clips.holdout, clips.synthetic, seed=config.seed))
    features = stages.features(
        scene.run, scene.real, scene.synthetic, scene.model, scene.model_key, watched=watched, config=config
    )
    with scene.run.measured("assess"):
        assessed = assess(features, clips, head, config=config)
    absent = assessed.absent | watch
    looked = _SecondLook.at(scene, assessed, clips, absent)
    power = _power(scene, assessed, features.train, absent)
    sizes = set_sizes(clips.train, clips.holdout, clips.synthetic)
    verified = verification(features.verification, clips.holdout, scene.model, seed=config.seed, absent=absent)
    private = replace(assessed.privacy, evidence=looked.evidence)
    result = AuditResult(
        sets=sizes,
        reid=verified,
        privacy=private,
        recall=assessed.recall,
        power=power,
        probes=attempt(absent, "probes", lambda: _probes(scene)),
        consistency=None if watched is None else _consistency(features, watched, head, config, absent),
        labels=attempt(absent, "labels", lambda: together.labelled(clips.synthetic, scene.synthetic_files, config)),
        verdict=decide(sizes, verified, private, power, exact_copies=_exact_copies(scene), not_tested=[]),
        gallery=_gallery(scene),
        absent=absent,
    )
    # What was not tested follows from everything else.
    result = replace(result, verdict=replace(result.verdict, not_tested=not_tested(result)))
    return _finished(scene, result, assessed, clips, looked)


@dataclass(frozen=True)
class _SecondLook:
    """Aligned SSIM of the most similar pairs, NaN for all others, and what follows for the flags."""

    synthetic: np.ndarray
    holdout: np.ndarray
    evidence: Evidence | None

    @classmethod
    def at(cls, scene: Scene, assessed: Assessed, clips: Clips, absent: Absent) -> "_SecondLook":
        found = {"synthetic": assessed.compared.synthetic, "holdout": assessed.compared.holdout}
        ssim = {name: np.full(len(part.p_max), np.nan) for name, part in found.items()}

        def judged() -> Evidence:
            count = scene.config.evidence_pairs
            if count == 0:
                raise TooFewSamples("asked not to compare decoded frames (--evidence-pairs 0)")
            files = {"synthetic": scene.synthetic_files or {}, "holdout": scene.real_files or {}}
            chosen = {name: confirm.most_similar(part, count=count) for name, part in found.items()}
            for name, part in found.items():
                ssim[name][chosen[name]] = confirm.pair_similarity(
                    scene.run,
                    name,
                    getattr(clips, name)["clip_id"].to_numpy(),
                    files[name],
                    part,
                    clips.train["clip_id"].to_numpy(),
                    scene.real_files or {},
                    chosen=chosen[name],
                    frames=scene.config.frames,
                )
            flagged = found["synthetic"].p_max[chosen["synthetic"]] > assessed.privacy.tau
            of_synthetic, of_holdout = (ssim[name][chosen[name]] for name in found)
            return confirm.second_look(of_synthetic, of_holdout, flagged)

        evidence = attempt(absent, "privacy.evidence", judged)
        return cls(ssim["synthetic"], ssim["holdout"], evidence)


def _power(scene: Scene, assessed: Assessed, gallery: FrameFeatures, absent: Absent) -> Power | None:
    planted = planted_matches(
        scene.run,
        scene.real,
        scene.real_files,
        scene.model,
        scene.model_key,
        gallery,
        encoder=scene.encoder,
        config=scene.config,
        count=scene.config.ladder_copies,
        progress=scene.progress,
    )
    absent |= {f"power.{name}": reason for name, reason in planted.absent.items()}
    innocents = len(assessed.compared.holdout.p_max)
    absent |= {
        f"power.*.tpr_at_fpr.{fpr:g}": f"a rate of {fpr:g} needs at least {math.ceil(1 / fpr)} holdout clips, found "
        f"{innocents}; add holdout clips (--real)"
        for fpr in FPR_LEVELS
        if innocents * fpr < 1
    }
    measured: Power = {name: _rung(copies, assessed, scene.config) for name, copies in planted.rungs.items()}
    if not measured:
        return None
    mean = float(np.mean([rung.tpr.value for rung in rungs(measured).values()]))
    return measured | {"minimum_detectable_share": _detectable(mean, assessed, scene.config)}


def _rung(copies: Copies, assessed: Assessed, config: AuditConfig) -> RungPower:
    rates = true_positive_rates(copies.p_max, assessed.compared.holdout.p_max, tau=assessed.privacy.tau)
    return RungPower(
        copies=len(copies.p_max),
        tpr=rates["tpr"],
        tpr_at_fpr=rates["tpr_at_fpr"],
        right_patient=wilson(int(copies.right_patient.sum()), len(copies.p_max)),
        minimum_detectable_share=_detectable(rates["tpr"].value, assessed, config),
    )


def _detectable(tpr: float, assessed: Assessed, config: AuditConfig) -> float | None:
    compared: dict[str, Matches] = {"n_synthetic": assessed.compared.synthetic, "n_holdout": assessed.compared.holdout}
    sizes = {name: len(found.p_max) for name, found in compared.items()}
    return minimum_detectable_share(**sizes, percentile=config.percentile, tpr=tpr)


def _probes(scene: Scene) -> dict[str, Probe]:
    return shortcut_probes(
        scene.run,
        scene.real,
        scene.real_files,
        scene.model,
        scene.model_key,
        encoder=scene.encoder,
        config=scene.config,
        most_clips=scene.config.probe_clips,
    )


def _consistency(
    features: stages.SetFeatures, watched: together.Watched, head: Head, config: AuditConfig, absent: Absent
) -> Consistency | None:
    real, synthetic = features.watched_real, features.watched_synthetic
    assert real is not None
    assert synthetic is not None
    patients = watched.real["patient_id"].to_numpy()
    return attempt(
        absent, "consistency", lambda: together.hold_together(real, synthetic, patients, head, seed=config.seed)
    )


def _exact_copies(scene: Scene) -> int:
    """Synthetic clips that are real ones by their decoded frames or, where only latents were given, by those."""
    pairs = sources.exact_copies(scene.run) + sources.equal_latents(scene.real, scene.synthetic)
    return len({clip_id for clip_id, _ in pairs})


def _gallery(scene: Scene) -> dict[str, object]:
    config = scene.config
    return {
        "train_frames": config.train_frames,
        "query_frames": config.query_frames,
        "altered_frames": config.altered_frames if scene.altered else 0,
        "initial_weights": scene.model.initial,
    }


def _finished(scene: Scene, result: AuditResult, assessed: Assessed, clips: Clips, looked: _SecondLook) -> Finished:
    compared, tau, files = assessed.compared, assessed.privacy.tau, scene.synthetic_files or {}

    def table(name: str, found: Matches, ssim: np.ndarray, *, exchangeable: bool) -> pd.DataFrame:
        return query_table(
            getattr(clips, name),
            clips.train,
            found,
            p_max_holdout=compared.holdout.p_max,
            tau=tau,
            gate=assessed.gate,
            exchangeable=exchangeable,
            like_real=getattr(assessed.like_real, name),
        ).assign(ssim=ssim)

    return Finished(
        result=result,
        samples=table("synthetic", compared.synthetic, looked.synthetic, exchangeable=False).assign(
            # A release proves by it that its clips are the ones that were looked at.
            sha256=clips.synthetic["clip_id"].map({clip_id: sha256_of(file) for clip_id, file in files.items()})
        ),
        holdout=table("holdout", compared.holdout, looked.holdout, exchangeable=True),
        patients=patient_table(assessed.ledger),
        real_files=scene.real_files,
        synthetic_files=scene.synthetic_files,
    )
