"""The pipeline: check → encode → train → features → neighbours → numbers → files."""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd

import mnemoscope.audit.run.assess as assess
import mnemoscope.audit.run.sources as sources
import mnemoscope.audit.run.stages as stages
from mnemoscope.audit.ledger import exposure_p_values, hits_by_patient, patient_ledger
from mnemoscope.audit.privacy import privacy
from mnemoscope.audit.recall import count_hits
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.tables import patient_table, query_table
from mnemoscope.audit.threshold import recall_gate
from mnemoscope.audit.verdict import decide
from mnemoscope.core.files import whole_file, write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import AuditResult
from mnemoscope.data.manifest import Manifest
from mnemoscope.latents.encode import FrameEncoder, source_fingerprint
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.device import usable_device
from mnemoscope.models.reid import ReidModel

AUDIT, SAMPLES, HOLDOUT, PATIENTS = "audit.json", "samples.parquet", "holdout.parquet", "patients.parquet"


@dataclass(frozen=True)
class Finished:
    """A finished audit: its numbers, its tables, and where the clips lie (None where only latents were given)."""

    result: AuditResult
    samples: pd.DataFrame
    holdout: pd.DataFrame
    patients: pd.DataFrame
    real_files: dict[str, Path] | None
    synthetic_files: dict[str, Path] | None


@dataclass(frozen=True)
class _Encoded:
    store: LatentStore
    files: dict[str, Path] | None
    altered: LatentStore | None = None


def run_audit(
    run: Run, *, real: Path, synthetic: Path, config: AuditConfig, progress: Progress = unwatched
) -> Finished:
    """Audits a synthetic set against the real clips its generator was trained on.

    Args:
        run: the run's folder; finished stages in it are reused where their inputs are unchanged.
        real: folder of real clips, or a latent store of them.
        synthetic: folder of synthetic clips, or a latent store encoded with the real store's scaling.
        config: settings.
        progress: told how far the stages are.

    Raises:
        InputError: when folders, clips, splits or settings do not allow an audit; each says the remedy.
    """
    usable_device(config.device)
    stages.training_recipe(config, channels=4)  # misspelt settings are named before hours of encoding
    of_real, of_synthetic = _encode(run, real, synthetic, config, progress)
    train, holdout = of_real.store.of_split("train"), of_real.store.of_split("holdout")
    model, model_key = stages.trained(run, of_real.store, of_real.altered, config=config, progress=progress)
    model.require_store(of_synthetic.store)
    features = stages.features(run, of_real.store, of_synthetic.store, model, model_key, config=config)
    with run.measured("audit"):
        copies = len(sources.exact_copies(run)) if of_real.files and of_synthetic.files else 0
        finished = _numbers(features, of_real, of_synthetic, model, train, holdout, config, exact_copies=copies)
        write_audit(run.out, finished, csv=config.csv)
    return finished


def _encode(
    run: Run, real: Path, synthetic: Path, config: AuditConfig, progress: Progress
) -> tuple[_Encoded, _Encoded]:
    # Both folders are listed before anything is decoded: a wrong name is told at once, not after hours.
    real_clips = None if is_store(real) else sources.real_manifest(real, config)
    synthetic_clips = None if is_store(synthetic) else sources.synthetic_manifest(synthetic, config)
    encoder = cache(lambda: stages.make_encoder(config))
    if real_clips is None:
        of_real = _Encoded(LatentStore(real), None)
        sources.require_splits(of_real.store.clips, real, percentile=config.percentile)
    else:
        of_real = _encoded_set(run, "real", real_clips, encoder(), None, config, progress)
    if synthetic_clips is None:
        of_synthetic = _Encoded(LatentStore(synthetic), None)
        sources.require_synthetic(of_synthetic.store.clips, synthetic)
    else:
        frames = config.frames
        stages.require_alike(of_real.store, encoder().fingerprint, (frames.height, frames.width, frames.target_fps))
        scaling = of_real.store.record.scaling
        of_synthetic = _encoded_set(run, "synthetic", synthetic_clips, encoder(), scaling, config, progress)
    record = of_synthetic.store.record
    stages.require_alike(of_real.store, record.encoder, (record.height, record.width, record.target_fps))
    return of_real, of_synthetic


def _encoded_set(
    run: Run,
    name: str,
    listed: Manifest,
    encoder: FrameEncoder,
    scaling: Scaling | None,
    config: AuditConfig,
    progress: Progress,
) -> _Encoded:
    source = source_fingerprint(listed)
    manifest = sources.checked(run, name, listed, source, config=config, progress=progress)
    if name == "real":
        sources.require_splits(manifest.clips, manifest.root, percentile=config.percentile)
    store = stages.encoded(
        run, name, manifest, source, encoder=encoder, scaling=scaling, config=config, progress=progress
    )
    altered = None
    if name == "real" and config.altered_frames and config.reid_model is None:
        learnt = manifest.clips["split"].isin(["train", "val"])
        altered = stages.encoded(
            run,
            "altered",
            replace(manifest, clips=manifest.clips[learnt].reset_index(drop=True)),
            source,
            encoder=encoder,
            scaling=store.record.scaling,
            config=config,
            progress=progress,
            altered_frames=config.altered_frames,
        )
    return _Encoded(store, dict(zip(manifest.clips["clip_id"], manifest.files, strict=True)), altered)


def _numbers(
    features: stages.SetFeatures,
    real: _Encoded,
    synthetic: _Encoded,
    model: ReidModel,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    config: AuditConfig,
    *,
    exact_copies: int,
) -> Finished:
    head = model.network.search_head()
    clips = synthetic.store.of_split("synthetic")
    of_synthetic = stages.matches(features.synthetic, features.train, head, device=config.device)
    of_holdout = stages.matches(features.holdout, features.train, head, device=config.device)
    again = (
        None
        if features.train_again is None
        else stages.matches(features.train_again, features.train, head, device=config.device)
    )
    private = privacy(of_synthetic.p_max, of_holdout.p_max, percentile=config.percentile, fdr_rate=config.fdr_rate)
    gate = None if config.gate_percentile is None else recall_gate(of_holdout.p_max, percentile=config.gate_percentile)
    hits = count_hits(of_synthetic.nearest, of_synthetic.p_max, n_gallery=len(train), tau=private.tau, gate=gate)
    verified = assess.verification(features.verification, holdout, model, seed=config.seed)
    sizes = assess.set_sizes(train, holdout, clips)
    power = assess.other_frame_power(again, private.tau)
    result = AuditResult(
        sets=sizes,
        reid=verified,
        privacy=private,
        recall=assess.recall(hits, train, gate=gate),
        power={"other_frame": {"tpr": power}, "minimum_detectable_share": None} if power else None,
        verdict=decide(sizes, verified, private, power, exact_copies=exact_copies, not_tested=assess.NOT_TESTED),
        gallery={
            "train_frames": config.train_frames,
            "query_frames": config.query_frames,
            "altered_frames": config.altered_frames if real.altered is not None else 0,
        },
    )
    owner = train["patient_id"].to_numpy()
    exposure_p = exposure_p_values(
        hits_by_patient(owner, of_synthetic.nearest[of_synthetic.p_max > private.tau]),
        hits_by_patient(owner, of_holdout.nearest),
        hits_by_patient(owner, np.arange(len(owner))),
        n_synthetic=len(clips),
        n_holdout=len(holdout),
        innocents_above=int((of_holdout.p_max > private.tau).sum()),
    )
    shared: dict[str, Any] = {"p_max_holdout": of_holdout.p_max, "tau": private.tau, "gate": gate}
    return Finished(
        result=result,
        samples=query_table(clips, train, of_synthetic, **shared, exchangeable=False),
        holdout=query_table(holdout, train, of_holdout, **shared, exchangeable=True),
        patients=patient_table(
            patient_ledger(owner, of_synthetic.nearest, of_synthetic.p_max, hits, exposure_p=exposure_p)
        ),
        real_files=real.files,
        synthetic_files=synthetic.files,
    )


def write_audit(out: Path, finished: Finished, *, csv: bool) -> None:
    """Writes ``audit.json`` (checked against its schema) and the three tables."""
    values = json.loads(json.dumps(finished.result.to_json(), allow_nan=False))
    jsonschema.validate(values, audit_schema())
    tables = {SAMPLES: finished.samples, HOLDOUT: finished.holdout, PATIENTS: finished.patients}
    for name, table in tables.items():
        with whole_file(out / name) as temporary:
            table.to_parquet(temporary, index=False)
        if csv:
            with whole_file((out / name).with_suffix(".csv")) as temporary:
                table.to_csv(temporary, index=False)
    write_json(out / AUDIT, values)


@cache
def audit_schema() -> dict[str, Any]:
    """The JSON Schema of ``mnemoscope.audit/1``."""
    value: dict[str, Any] = json.loads(files("mnemoscope.audit").joinpath("audit.schema.json").read_text())
    return value
