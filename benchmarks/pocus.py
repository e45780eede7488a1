"""The main job on real ultrasound: are re-encoded, degraded and cropped copies found among clips of strangers?

    python -m benchmarks.pocus --real POCUS --out runs/pocus

POCUS is the folder of the COVID-19 point-of-care ultrasound clips (Born et al. 2021) with its ``metadata.csv``. The
patients are dealt into train, val, holdout and unseen; the real side of the audit are the first three, the suspects are
copies of train clips among clips of the unseen. Writes docs/results/pocus.md.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

import benchmarks.methods as methods
from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.run import AuditConfig, Finished
from mnemoscope.cli.audit import audited
from mnemoscope.core.files import folder_fingerprint, whole_folder, write_text
from mnemoscope.core.progress import unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate
from mnemoscope.data.listing import TableColumns
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import probe, read_clip
from mnemoscope.data.writing import write_video
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import load_reid
from mnemoscope.models.vae import load_vae
from mnemoscope.training.reid import paper_training, train_reid

PAGE = Path(__file__).parents[1] / "docs" / "results" / "pocus.md"
SEED = 0
PATIENTS = {"holdout": 24, "val": 8, "unseen": 12}
KINDS = ("re-encoded", "degraded", "cropped")
COPIES_PER_KIND = 10
MAX_FRAMES = 48
SIDE_PX = 224
GOOD_SHARE = 0.8
LADDER_COPIES = 100
PAPER_EPOCHS = 100


@dataclass(frozen=True)
class Deal:
    """Which clip plays which part; ``copies`` maps a suspect's id to (source file, kind)."""

    table: pd.DataFrame
    copies: dict[str, tuple[str, str]]
    strangers: dict[str, str]


def deal(real: Path) -> Deal:
    """Deals the patients by the seed and picks the train clips to copy."""
    clips = pd.read_csv(real / "metadata.csv", dtype=str)[["file", "patient", "label", "probe"]]
    clips["file"] = "videos/" + clips["file"]
    patients = sorted(clips["patient"].unique())
    order = iter(generator(SEED, "pocus patients").permutation(patients))
    part = {next(order): name for name, count in PATIENTS.items() for _ in range(count)}
    clips["split"] = clips["patient"].map(part).fillna("train")
    train = sorted(clips.loc[clips["split"] == "train", "file"])
    chosen = generator(SEED, "pocus copies").permutation(train)[: len(KINDS) * COPIES_PER_KIND]
    names = [f"suspect{i:03d}" for i in generator(SEED, "pocus names").permutation(999)]
    copies = {names.pop(): (str(file), KINDS[i % len(KINDS)]) for i, file in enumerate(chosen)}
    strangers = {names.pop(): str(file) for file in sorted(clips.loc[clips["split"] == "unseen", "file"])}
    return Deal(clips[clips["split"] != "unseen"], copies, strangers)


def write_suspects(real: Path, dealt: Deal, out: Path) -> None:
    """Writes the suspects; copies and strangers go through the same writer."""
    sources = {name: (file, "re-encoded") for name, file in dealt.strangers.items()} | dealt.copies
    with whole_folder(out) as folder:
        for name, (file, kind) in sorted(sources.items()):
            path = real / file
            transform = FrameTransform(height=SIDE_PX, width=SIDE_PX)
            frames = changed(read_clip(path, transform, max_frames=MAX_FRAMES), kind, name)
            write_video(folder / f"{name}.avi", frames, fps=probe(path).fps or 25.0, quality=6)


def changed(frames: np.ndarray, kind: str, name: str) -> np.ndarray:
    """The frames (T, H, W) under one of ``KINDS``: re-encoding alone; blur, gain and noise; or the inner 85 %."""
    if kind == "re-encoded":
        return frames
    if kind == "cropped":
        edge = round(0.075 * SIDE_PX)
        box = (edge, edge, SIDE_PX - edge, SIDE_PX - edge)
        return np.stack([np.asarray(Image.fromarray(f).resize((SIDE_PX, SIDE_PX), box=box)) for f in frames])
    rng = generator(SEED, "pocus noise", name)
    gain = rng.uniform(0.8, 1.2)
    blurred = np.stack([np.asarray(Image.fromarray(f).filter(ImageFilter.GaussianBlur(1.5))) for f in frames])
    return np.clip(gain * blurred + rng.normal(0, 8, frames.shape), 0, 255).astype(np.uint8)


def run(real: Path, out: Path) -> str:
    """Deals, writes the suspects, audits in latent and in image space, and returns the page."""
    dealt = deal(real)
    out.mkdir(parents=True, exist_ok=True)
    table = (out / "clips.csv").resolve()
    dealt.table.to_csv(table, index=False)
    write_suspects(real, dealt, out / "suspects")
    sections = []
    base = AuditConfig(
        real_layout="folder",
        table=TableColumns(table=table, patient="patient", split="split"),
        max_frames=MAX_FRAMES,
        seed=SEED,
        drop_bad_clips=True,
    )
    for space in ("latent", "image"):
        config = base.model_copy(update={"space": space})
        finished = audited(real, out / "suspects", out / space, config, unwatched)
        sections.append(_section(space, finished, dealt))
    return _page(dealt, [*sections, _ladder(out, base)])


def _ladder(out: Path, config: AuditConfig) -> str:
    """The ladder of planted copies for several ways to compare clips."""
    latent, image = (LatentStore(out / space / "latents-real") for space in ("latent", "image"))
    vae = methods.Remembering(load_vae("bundled"))
    run = Run(out / "paper", command="pocus paper", identity={}, config={}, seed=SEED)

    def train_paper(folder: Path) -> None:
        recipe = paper_training(space="latent", channels=latent.frame_shape[0])
        loop = recipe.loop.model_copy(update={"epochs": PAPER_EPOCHS})
        train_reid(latent, recipe.model_copy(update={"loop": loop}), folder, seed=SEED)

    inputs = {"store": latent.fingerprint, "epochs": PAPER_EPOCHS}
    folders = {
        "default": out / "latent" / "reid" / "model",
        "paper": run.stage("reid", inputs, train_paper) / "model",
    }
    trained = [
        methods.Method(name, latent, vae, load_reid(folder), folder_fingerprint(folder))
        for name, folder in folders.items()
    ]
    listed = [trained[0], methods.correlated(trained[0], "default features, correlation"), trained[1]]
    listed += [methods.correlated(trained[1], "paper features, correlation"), methods.pixel_method(image)]
    files = methods.files_of(out / "latent")
    scored = [
        methods.score(
            Run(out / "methods" / str(number), command="ladder", identity={}, config={}, seed=SEED),
            method,
            files,
            config.model_copy(update={"space": method.store.record.space}),
            copies=LADDER_COPIES,
        )
        for number, method in enumerate(listed)
    ]
    copies = max(rung.copies for rung in scored[0].rungs.values())
    return f"""## The ladder, and other ways to compare clips

{copies} train clips, each of another patient, shown again through every change of the ladder; the share that scores
above what 5 % of the holdout clips reach (no lower rate can be resolved with so few). `paper` is the paper's recipe on
the same latents, {PAPER_EPOCHS} epochs in place of up to 1000.

{methods.verification_table(scored)}

{methods.ladder_table(scored, level="0.05")}"""


def _section(space: str, finished: Finished, dealt: Deal) -> str:
    rows = finished.samples.set_index("clip_id")
    reid, privacy = finished.result.reid, finished.result.privacy
    assert reid is not None
    assert privacy is not None
    real_files = finished.real_files or {}
    lines = [
        f"## {space.capitalize()} space\n",
        f"Verification on holdout patients: AUC {_told(reid.auc, 3)}, top-1 of another frame {_told(reid.top1, 3)}, "
        f"accuracy at logit 0 {reid.accuracy:.3f}. tau = {privacy.tau:.3f} (percentile {privacy.percentile:g} of "
        f"{len(finished.holdout)} holdout clips). Verdict: **{finished.result.verdict.status}**, "
        f"{privacy.flagged} of {len(rows)} suspects flagged, excess {_told(privacy.excess_rate, 3)}, "
        f"p = {privacy.p_value:.2g}.\n",
        "| suspects | clips | flagged [95 % interval] | nearest is the source clip | nearest is its patient |",
        "| --- | --- | --- | --- | --- |",
    ]
    patient, shares = dealt.table.set_index("file")["patient"], dict[str, float]()
    for kind in KINDS:
        sources = {name: file for name, (file, k) in dealt.copies.items() if k == kind}
        picked = rows.loc[sorted(sources)]
        near_files = [real_files[clip_id].name for clip_id in picked["nearest_clip_id"]]
        own_files = [Path(sources[name]).name for name in picked.index]
        by_clip = sum(near == own for near, own in zip(near_files, own_files, strict=True))
        owners = [patient[sources[name]] for name in picked.index]
        by_patient = sum(near == own for near, own in zip(picked["nearest_patient_id"], owners, strict=True))
        lines.append(f"| {kind} copies | {len(picked)} | {_flagged(picked)} | {by_clip} | {by_patient} |")
        shares[kind] = float(picked["flagged"].mean())
    strangers = rows.loc[sorted(dealt.strangers)]
    lines.append(f"| clips of unseen patients | {len(strangers)} | {_flagged(strangers)} | – | – |")
    weak = [kind for kind, share in shares.items() if share < GOOD_SHARE]
    if weak:
        lines.append(f"\nWeak here: fewer than {GOOD_SHARE:.0%} of the {' and '.join(weak)} copies are flagged.")
    return "\n".join(lines)


def _flagged(rows: pd.DataFrame) -> str:
    flagged = int(rows["flagged"].sum())
    share = wilson(flagged, len(rows))
    return f"{flagged} = {share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _told(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _page(dealt: Deal, sections: list[str]) -> str:
    parts = dealt.table.groupby("split")
    sizes = ", ".join(f"{name} {len(rows)} clips of {rows['patient'].nunique()} patients" for name, rows in parts)
    head = f"""# The main job on real ultrasound

Written by `python -m benchmarks.pocus --real POCUS --out runs/pocus`, POCUS being the folder of 124 lung-ultrasound
clips of 78 patients from the COVID-19 point-of-care ultrasound collection (Born et al. 2021), which are not part of
this repository. Patients are dealt by seed {SEED}:

{sizes}.

The suspects are {len(dealt.copies)} copies of train clips among {len(dealt.strangers)} clips of
{PATIENTS["unseen"]} patients whom neither the model nor the gallery saw. All suspects are written anew as MJPEG at
{SIDE_PX} px, first {MAX_FRAMES} frames; degraded ones are blurred (1.5 px), scaled by a gain of 0.8 to 1.2 and covered
with noise of 8 gray levels; cropped ones lose 7.5 % at each edge. Settings are the defaults; the VAE is the bundled
one, which has only ever seen the phantom.
"""
    return "\n\n".join([head.strip(), *sections]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/pocus"))
    options = parser.parse_args()
    page = run(options.real, options.out)
    write_text(PAGE, page)
    print(page)


if __name__ == "__main__":
    main()
