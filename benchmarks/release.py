"""Release: export and verify of 10,000 clips, hashing and copying every byte.

The clips are a few phantom clips under 10,000 names, each with bytes of its own at its end: nothing is decoded, so that
only number and size count. The load of the machine stands beside the figures.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.rows import Row
from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES
from mnemoscope.audit.run.settings import AuditConfig, recorded
from mnemoscope.core.files import sha256_of, write_json
from mnemoscope.core.types import AuditResult, Estimate, Privacy, SetSize, Verdict
from mnemoscope.data.manifest import make_manifest
from mnemoscope.data.writing import write_video
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import StoreRecord
from mnemoscope.latents.writer import StoreWriter
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from mnemoscope.release.audited import read_audited
from mnemoscope.release.export import ExportConfig, export
from mnemoscope.release.verify import verify

CLIPS, FRAMES, PATTERNS = 10_000, 48, 16
EF_PCT = 55.0
LIMIT_S = 120.0


def run() -> list[Row]:
    """Seconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        size_mb = _write_clips(place / "clips")
        _write_audit(place / "audit", place / "clips")
        start = time.perf_counter()
        done = export(read_audited(place / "audit"), place / "clips", place / "out", ExportConfig(), decisions={})
        exported = time.perf_counter()
        found = verify(done.out, seal=done.sha256)
        verified = time.perf_counter()
    if found.problems or found.clips != CLIPS:
        raise AssertionError(f"expected a whole release of {CLIPS} clips, found {found}")
    note = f"{FRAMES} frames of 112 x 112, {size_mb:.0f} MB, with the latents' hashes; load {os.getloadavg()[0]:.1f}"
    return [
        Row(name=f"release export, {CLIPS:,} clips", value=exported - start, unit="s", note=note),
        Row(name="release verify of the same", value=verified - exported, unit="s", note=note),
        Row(name="both", value=verified - start, unit="s", target=LIMIT_S, note=note),
    ]


def _names() -> list[str]:
    return [f"SYN{number:06d}" for number in range(CLIPS)]


def _write_clips(folder: Path) -> float:
    """The clips as ``mnemoscope sample`` leaves them; returns their size in MB."""
    cohort = CohortSpec(view="a4c", n_patients=PATTERNS, n_frames=FRAMES)
    patterns = []
    for clip in clips(cohort)[:PATTERNS]:
        write_video(folder / "pattern.avi", render(cohort, clip).frames, fps=32.0, quality=3)
        patterns.append((folder / "pattern.avi").read_bytes())
    (folder / "pattern.avi").unlink()
    (folder / "Videos").mkdir()
    for number, name in enumerate(_names()):
        (folder / "Videos" / f"{name}.avi").write_bytes(patterns[number % PATTERNS] + number.to_bytes(4))
    table = {"FileName": _names(), "EF": EF_PCT, "FrameHeight": 112, "FrameWidth": 112, "FPS": 32.0}
    pd.DataFrame(table | {"NumberOfFrames": FRAMES, "Split": "SYNTHETIC"}).to_csv(folder / "FileList.csv", index=False)
    return CLIPS * float(np.mean([len(pattern) for pattern in patterns])) / 1e6


def _write_audit(run: Path, folder: Path) -> None:
    """What a release reads of an audit that passed."""
    run.mkdir()
    names = _names()
    _write_store(run / "latents-synthetic", names, "synthetic", FRAMES)
    _write_store(run / "latents-real", ["real000001"], "train", 1)
    samples = pd.DataFrame(
        {"clip_id": names, "p_max": 0.0, "nearest_clip_id": "real000001", "flagged": False, "gated": True}
    )
    hashes = [sha256_of(folder / "Videos" / f"{name}.avi") for name in names]
    samples.assign(sha256=hashes).to_parquet(run / SAMPLES)
    pd.DataFrame(
        {"clip_id": ["held"], "patient_id": ["held"], "nearest_clip_id": "real000001", "gated": True}
    ).to_parquet(run / HOLDOUT)
    pd.DataFrame({"patient_id": [f"patient{number:05d}" for number in range(7465)]}).to_parquet(run / PATIENTS)
    rate = Estimate(0.0, 0.0, 0.001)
    result = AuditResult(
        sets={"train": SetSize(7465, 7465), "holdout": SetSize(1277, 1277), "synthetic": SetSize(CLIPS, CLIPS)},
        reid=None,
        privacy=Privacy(95.0, 1.0, 0, rate, rate, 1.0, 0.1, 0),
        recall=None,
        verdict=Verdict("pass", ["benchmark"], ["everything"]),
    )
    write_json(run / AUDIT, result.to_json())
    identity = {"real": "", "synthetic": str(folder)}
    record = {"identity": identity, "config": recorded(AuditConfig()), "seed": 0, "status": "done", "finished": ""}
    write_json(run / "run.json", record | {"command": "audit", "versions": {}, "git_commit": None})


def _write_store(folder: Path, names: list[str], split: str, n_frames: int) -> None:
    scaling = Scaling((0.0,) * 4, (1.0,) * 4, (0.0,) * 4, (1.0,) * 4)
    writer = StoreWriter(folder, frame_shape=(4, 14, 14), dtype="float16")
    latents = np.random.default_rng(0).normal(size=(n_frames, 4, 14, 14)).astype(np.float16)
    for name in names:
        writer.append(name, latents)
    rows = {"clip_id": names, "path": names, "patient_id": names, "split": split, "n_frames": n_frames, "ef": EF_PCT}
    record = StoreRecord("latent", "benchmark", "benchmark", 112, 112, None, scaling)
    writer.finish(make_manifest(pd.DataFrame(rows), root=folder).clips, lambda _: record, scaling=scaling)
