"""The pipeline: check → encode → train → features → neighbours → numbers → files."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import mnemoscope.audit.run.sources as sources
import mnemoscope.audit.run.stages as stages
import mnemoscope.audit.run.together as together
from mnemoscope.audit.run.findings import Scene, find
from mnemoscope.audit.run.results import Finished, write_audit
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.data.manifest import Manifest
from mnemoscope.latents.encode import FrameEncoder, source_fingerprint
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.device import usable_device
from mnemoscope.models.ef_readers import ef_reader


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
    if config.measured_ef is not None:
        together.measured_table(config.measured_ef)
    if config.ef_reader is not None:
        ef_reader(config.ef_reader)
    of_real, of_synthetic, encoder = _encode(run, real, synthetic, config, progress)
    model, model_key = stages.trained(run, of_real.store, of_real.altered, config=config, progress=progress)
    model.require_store(of_synthetic.store)
    scene = Scene(
        run=run,
        real=of_real.store,
        synthetic=of_synthetic.store,
        real_files=of_real.files,
        synthetic_files=of_synthetic.files,
        altered=of_real.altered is not None,
        encoder=encoder,
        model=model,
        model_key=model_key,
        config=config,
        progress=progress,
    )
    with run.measured("audit"):
        finished = find(scene)
        write_audit(run.out, finished, csv=config.csv)
    return finished


def _encode(
    run: Run, real: Path, synthetic: Path, config: AuditConfig, progress: Progress
) -> tuple[_Encoded, _Encoded, FrameEncoder | None]:
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
    rate = stages.rate_beside(of_real.store, of_synthetic.store)
    stages.require_alike(of_real.store, record.encoder, (record.height, record.width, rate))
    return of_real, of_synthetic, encoder() if of_real.files else None


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
