"""The bundled generator on the phantom: how good its frames are, whether its videos do what they are asked, how fast.

    python -m benchmarks.generator --out runs/even [--bundle | --guidance]

Expects in ``--out`` and beside it what the commands at the page's end make: cohorts, latents and, for ``--bundle``,
trained models. ``--bundle`` first copies these models, in half precision, to where the package looks for them.
``--guidance``, and ``--bundle`` too, writes down the guidance that suits the video model and what clips show then.
What was measured of these weights before is kept (docs/results/generator/). Writes docs/results/generator.md and its
figures.
"""

import argparse
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mnemoscope.audit.frechet import frechet_distance
from mnemoscope.audit.labels import mae, r2
from mnemoscope.audit.run import AuditConfig
from mnemoscope.cli.audit import audited
from mnemoscope.cli.sample import VideosConfig, sample_videos
from mnemoscope.core.files import (
    folder_fingerprint,
    read_json,
    value_fingerprint,
    whole_folder,
    write_json,
    write_text,
)
from mnemoscope.core.progress import unwatched
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import BUNDLED, BUNDLED_FOLDER, EF_TOLD, RECORD_FILE
from mnemoscope.models.lidm import load_lidm
from mnemoscope.models.lvdm import load_lvdm
from mnemoscope.models.phantom_ef import SLOWEST_BEAT_S, measure_ef
from mnemoscope.models.reid import ReidModel, load_reid
from mnemoscope.models.vae import load_vae
from mnemoscope.sampling.images import sample_frames
from mnemoscope.sampling.samplers import Sampler
from mnemoscope.sampling.videos import VideoSampling, sample_clips

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "results" / "generator.md"
MEASURED = DOCS / "results" / "generator"  # what the page is made of, of the weights that its key names
RECIPES = Path(__file__).parent / "recipes"
LAST = {
    "lidm": ("even", "lidm-even.yaml"),
    "lvdm": ("wide", "lvdm-wide.yaml"),
}  # cohort and recipe of the last training
STEPS = 8
EF_LENGTHS = {16: 200, 64: 32, 128: 16}
GUIDANCES = (1.0, 1.5, 2.0)  # at 3 the EF shown bends away from the EF told so far that the error grows
CHOOSING = {16: 96, 64: 32}  # frames that are read: clips; the first are cut from one window, the others joined
GUIDANCE_FILE = BUNDLED_FOLDER / "lvdm" / "guidance.csv"
GUIDANCE_COLUMNS = ("guidance", "r2", "mae", "slope", "offset", "scatter")
COMPARED = 8
TIMED = 1
FRAMES_PER_CLIP = 4
AUDITED = 100
AUDITED_FRAMES = 24
IMAGE_SAMPLERS: tuple[tuple[Sampler, int], ...] = (
    ("ddpm", 32),
    ("ddim", 16),
    ("dpm++", 8),
    ("dpm++", 25),
)
VIDEO_SAMPLERS: tuple[tuple[Sampler, int], ...] = (
    ("ddpm", 16),
    ("ddim", 8),
    ("dpm++", 4),
    ("dpm++", 8),
    ("dpm++", 16),
)
IMAGE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MB = 1e6

Figures = dict[str, Any]


class Bench:
    """Models and the cohort's latents."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.store = LatentStore(out / "latents")
        self.vae = load_vae(BUNDLED)
        self.lidm, self.image_record = load_lidm(BUNDLED)
        self.lvdm, self.video_record = load_lvdm(BUNDLED)
        self.guidance = self.video_record.guidance

    def kept(self, name: str, measure: Callable[[], Figures], *settings: object, of_choice: bool = True) -> Figures:
        """What ``measure`` found of these weights, now or in an earlier call.

        Args:
            name: of the measurement, and of its file.
            measure: makes it.
            settings: what else it depends on.
            of_choice: whether it depends on the guidance and the response that were chosen, not on weights alone.
        """
        choice = [self.guidance, self.video_record.ef_shown, self.video_record.ef_shown_joined] if of_choice else []
        weights = [folder_fingerprint(BUNDLED_FOLDER / kind / "unet", pattern="*.*") for kind in LAST]
        key = value_fingerprint([weights, choice, settings])
        path = MEASURED / f"{name}.json"
        if not path.is_file() or read_json(path)["key"] != key:
            MEASURED.mkdir(exist_ok=True)
            write_json(path, {"key": key, "found": measure()})
        return dict(read_json(path)["found"])

    def frames(self, count: int, *, sampler: Sampler = "dpm++", steps: int = 25, prefix: str = "FRAME") -> np.ndarray:
        """Standardised latents of new frames."""
        ids = [f"{prefix}{i:06d}" for i in range(count)]
        blocks = [
            sample_frames(self.lidm, self.image_record, ids[i : i + 64], seed=1, sampler=sampler, steps=steps)
            for i in range(0, count, 64)
        ]
        return np.concatenate(blocks)

    def clips(self, ef: np.ndarray, how: VideoSampling, *, prefix: str = "TEST", correct: bool = False) -> np.ndarray:
        """Standardised latents of new clips of drawn frames; ``correct`` tells what will show ``ef``."""
        told = self.video_record.ef_to_tell(ef, n_frames=how.n_frames) if correct else ef
        ids = [f"{prefix}{i:06d}" for i in range(len(ef))]
        shown, blocks = self.frames(len(ef), prefix=prefix), []
        for i in range(0, len(ef), 8):
            part = slice(i, i + 8)
            blocks.append(
                sample_clips(
                    self.lvdm,
                    self.video_record,
                    ids[part],
                    frames=shown[part],
                    ef=told[part],
                    how=how,
                    seed=1,
                    image_model=self.lidm,
                )
            )
        return np.concatenate(blocks)

    def decoded(self, latents: np.ndarray) -> np.ndarray:
        """uint8 frames of standardised latents of one clip."""
        return self.vae.decode(self.video_record.scaling.invert(latents, "standard"))

    def measured_ef(self, clips: np.ndarray) -> np.ndarray:
        """EF read off the decoded frames, in percent."""
        fps = float(self.video_record.fps or 0)
        return np.array([measure_ef(self.decoded(clip), fps) for clip in clips])

    def reid(self) -> ReidModel:
        """The re-identification model of the audit of this cohort."""
        self.audit()
        return load_reid(self.out / "audit" / "reid" / "model")

    def audit(self) -> Figures:
        """audit.json of a sampled set against the cohort, latents against latents."""
        config = VideosConfig(
            lidm=BUNDLED, lvdm=BUNDLED, count=AUDITED, frames=AUDITED_FRAMES, steps=STEPS, ef="prior", seed=1
        )
        sampled = sample_videos(out=self.out / "sampled", config=config)
        audited(self.out / "latents", sampled.latents.folder, self.out / "audit", AuditConfig(), progress=unwatched)
        return read_json(self.out / "audit" / "audit.json")


def uniform_ef(count: int) -> np.ndarray:
    """Evenly spread over 10–90 %, in an order that has nothing to do with the frames."""
    return generator(1, "requested").permutation(np.linspace(10, 90, count))


def of_labels(requested: np.ndarray, measured: np.ndarray) -> Figures:
    """R², MAE and slope of the measured EF on the requested."""
    weight = np.ones(len(requested))
    slope, offset = np.polyfit(requested, measured, 1)
    return {
        "n": len(requested),
        "r2": r2(requested, measured, weight),
        "mae": mae(requested, measured, weight),
        "slope": slope,
        "offset": offset,
        "requested": requested.tolist(),
        "measured": measured.tolist(),
    }


def labels_at(bench: Bench, n_frames: int, count: int, how: VideoSampling) -> Figures:
    """Requested against measured EF of clips of a length."""
    ef = uniform_ef(count)
    clips = bench.clips(ef, replace(how, n_frames=n_frames), correct=True)
    return of_labels(ef, bench.measured_ef(clips))


def labels_of_guidance(bench: Bench) -> Figures:
    """EF shown by short and long clips, by the EF told and its weight; these clips are measured in no other place.

    The best weight leaves the smallest error once the response to the EF told, a cubic, is taken out.
    """
    ef, found = np.concatenate([uniform_ef(count) for count in CHOOSING.values()]), []
    for guidance in GUIDANCES:
        labels = bench.kept(f"guidance-{guidance:g}", partial(labels_of, bench, guidance), CHOOSING, of_choice=False)
        shown = response(ef, np.array(labels["measured"]))
        error = np.interp(labels["measured"], shown, EF_TOLD) - ef
        found.append(labels | {"guidance": guidance, "shown": shown.tolist(), "scatter": float(error.std())})
    return {"rows": found, "chosen": min(found, key=lambda row: row["scatter"])}


def labels_of(bench: Bench, guidance: float) -> Figures:
    """Labels of the clips that guidance is chosen on, the model being told what is asked for."""
    measured = []
    for n_frames, count in CHOOSING.items():
        made = max(n_frames, int(bench.video_record.window_frames or 0))
        how = VideoSampling(n_frames=made, steps=STEPS, guidance=guidance)
        clips = bench.clips(uniform_ef(count), how, prefix=f"CHOOSING{n_frames}-")
        measured.append(bench.measured_ef(clips[:, :n_frames]))
    return of_labels(np.concatenate([uniform_ef(count) for count in CHOOSING.values()]), np.concatenate(measured))


def response(told: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """EF that clips show at ``EF_TOLD``: a cubic of the EF told, made to rise."""
    curve = np.polynomial.Polynomial.fit(told, shown, 3)(np.clip(EF_TOLD, told.min(), told.max()))
    beyond = (np.ptp(shown) / np.ptp(told)) * (EF_TOLD - np.clip(EF_TOLD, told.min(), told.max()))
    return np.maximum.accumulate(curve + beyond) + 1e-3 * np.arange(len(EF_TOLD))


def real_labels(bench: Bench, n_frames: int) -> Figures:
    """The reader's own error: true EF of holdout clips against EF read off their first frames, decoded latents."""
    rows = bench.store.of_split("holdout").iloc[:100]
    fps = float(bench.video_record.fps or 0)
    read = [measure_ef(bench.vae.decode(latents[:n_frames]), fps) for _, latents in bench.store.clips_of(rows)]
    return of_labels(rows["ef"].to_numpy(dtype=float), np.array(read))


def sets_of_frames(bench: Bench) -> dict[str, np.ndarray]:
    """Standardised latents of as many holdout, train and noise frames."""
    holdout, train = bench.store.of_split("holdout"), bench.store.of_split("train")
    patients = generator(1, "floor").permutation(train["patient_id"].unique())[: holdout["patient_id"].nunique()]

    def some(rows: pd.DataFrame) -> np.ndarray:
        parts = [latents[strided_frames(len(latents), FRAMES_PER_CLIP)] for _, latents in bench.store.clips_of(rows)]
        return bench.image_record.scaling.apply(np.concatenate(parts), "standard")

    real = some(holdout)
    noise = generator(1, "noise").standard_normal(real.shape).astype(np.float32)
    return {"holdout": real, "train": some(train[train["patient_id"].isin(patients)]), "noise": noise}


def spaces(bench: Bench, reid: ReidModel, latents: np.ndarray) -> dict[str, np.ndarray]:
    """What Fréchet distances are measured in."""
    unscaled = bench.image_record.scaling.invert(latents, "standard").astype(np.float16)
    return {"reid": reid.embed(unscaled), "latents": latents.reshape(len(latents), -1)}


def image_quality(bench: Bench) -> Figures:
    """Fréchet distances to holdout frames, and seconds an image."""
    reid = bench.reid()
    sets = sets_of_frames(bench)
    holdout = spaces(bench, reid, sets["holdout"])

    def distances(latents: np.ndarray) -> Figures:
        return {name: frechet_distance(x, holdout[name]) for name, x in spaces(bench, reid, latents).items()}

    found: Figures = {"n": len(sets["holdout"])} | {name: distances(sets[name]) for name in ("train", "noise")}
    found["samplers"] = []
    for sampler, steps in IMAGE_SAMPLERS:
        started = time.perf_counter()
        frames = bench.frames(len(sets["holdout"]), sampler=sampler, steps=steps)
        seconds = (time.perf_counter() - started) / len(frames)
        found["samplers"].append({"sampler": sampler, "steps": steps, "seconds": seconds} | distances(frames))
    return found


def few_real_clips(bench: Bench) -> Figures:
    """The same distance of frames of as few real clips, of train patients."""
    holdout = spaces(bench, bench.reid(), sets_of_frames(bench)["holdout"])
    rows = bench.store.of_split("train").drop_duplicates("patient_id").iloc[:COMPARED]
    clips = np.concatenate([latents[:AUDITED_FRAMES:2] for _, latents in bench.store.clips_of(rows)])
    frames = spaces(bench, bench.reid(), bench.image_record.scaling.apply(clips, "standard"))
    return {name: frechet_distance(x, holdout[name]) for name, x in frames.items()}


def video_quality(bench: Bench) -> Figures:
    """Labels and frames of clips of one window, and seconds a 64-frame video, over samplers and steps."""
    reid, rows = bench.reid(), []
    holdout = spaces(bench, reid, sets_of_frames(bench)["holdout"])
    ef = uniform_ef(COMPARED)
    for sampler, steps in VIDEO_SAMPLERS:
        how = VideoSampling(n_frames=24, sampler=sampler, steps=steps, guidance=bench.guidance)
        clips = bench.clips(ef, how, correct=True)
        labels = of_labels(ef, bench.measured_ef(clips))
        frames = spaces(bench, reid, clips[:, ::2].reshape(-1, *clips.shape[2:]))
        distance = {name: frechet_distance(x, holdout[name]) for name, x in frames.items()}
        started = time.perf_counter()
        bench.clips(ef[:TIMED], replace(how, n_frames=64))
        seconds = (time.perf_counter() - started) / TIMED
        rows.append(
            {"sampler": sampler, "steps": steps, "seconds": seconds, "r2": labels["r2"], "mae": labels["mae"]}
            | distance
        )
    return {"rows": rows}


def joint_quality(bench: Bench) -> Figures:
    """JVID: frames against coherence, over the share of steps that the image model takes."""
    reid, rows = bench.reid(), []
    holdout = spaces(bench, reid, sets_of_frames(bench)["holdout"])
    head = reid.network.search_head()
    for share in IMAGE_SHARES:
        ef = uniform_ef(COMPARED)
        how = VideoSampling(n_frames=24, steps=12, image_share=share, guidance=bench.guidance)
        clips = bench.clips(ef, how, correct=True)
        flat = clips.reshape(-1, *clips.shape[2:])
        x = spaces(bench, reid, flat)
        features = x["reid"].reshape(len(clips), clips.shape[1], -1)
        apart = np.abs(features[:, :1] - features[:, 1:])
        logit = head.bias + apart @ head.weight
        measured = bench.measured_ef(clips)
        rows.append(
            {
                "share": share,
                "reid": frechet_distance(x["reid"], holdout["reid"]),
                "latents": frechet_distance(x["latents"], holdout["latents"]),
                "together": float(np.median(logit)),
                "jump": float(np.abs(np.diff(clips, axis=1)).mean()),
                "r2": of_labels(ef, measured)["r2"],
            }
        )
    real = [
        bench.image_record.scaling.apply(c[:24], "standard")
        for _, c in bench.store.clips_of(bench.store.of_split("holdout").iloc[:64])
    ]
    features = np.stack([reid.embed(bench.image_record.scaling.invert(c, "standard").astype(np.float16)) for c in real])
    logit = head.bias + np.abs(features[:, :1] - features[:, 1:]) @ head.weight
    jump = float(np.abs(np.diff(np.stack(real), axis=1)).mean())
    return {"rows": rows, "real": {"together": float(np.median(logit)), "jump": jump}}


def bundle(out: Path) -> None:
    """Copies the trained models to the package, weights in half precision, with recipe and log."""
    for kind, (cohort, recipe) in LAST.items():
        made = out.parent / cohort / kind / kind
        with whole_folder(BUNDLED_FOLDER / kind) as folder:
            shutil.copytree(made / "model", folder, dirs_exist_ok=True)
            weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
            save_file({name: value.half() for name, value in load_file(weights).items()}, weights)
            shutil.copy(made / "training" / "log.csv", folder / "log.csv")
            shutil.copy(RECIPES / recipe, folder / "training.yaml")


def choose_guidance(out: Path) -> None:
    """Writes the guidance whose labels scatter least, its response, and that of joined windows into the record."""
    bench = Bench(out)
    found = labels_of_guidance(bench)
    chosen = found["chosen"]
    pd.DataFrame(found["rows"])[list(GUIDANCE_COLUMNS)].round(3).to_csv(GUIDANCE_FILE, index=False)
    record = BUNDLED_FOLDER / "lvdm" / RECORD_FILE
    joined = slice(-CHOOSING[64], None)
    shown = {
        "ef_shown": chosen["shown"],
        "ef_shown_joined": response(*(np.array(chosen[of])[joined] for of in ("requested", "measured"))).tolist(),
    }
    rounded = {name: [round(value, 2) for value in values] for name, values in shown.items()}
    write_json(record, read_json(record) | {"guidance": chosen["guidance"]} | rounded)


def montage(bench: Bench) -> None:
    """A moving picture: real holdout clips above, generated ones of EF 20, 40, 60, 80 below."""
    rows = bench.store.of_split("holdout").iloc[2:10:2]
    real = [bench.vae.decode(latents)[:24] for _, latents in bench.store.clips_of(rows)]
    how = VideoSampling(n_frames=24, steps=STEPS, guidance=bench.guidance)
    made = [bench.decoded(c) for c in bench.clips(np.array([20.0, 40.0, 60.0, 80.0]), how, correct=True)]
    gap = np.full((24, 6, 4 * 112), 255, dtype=np.uint8)
    film = np.concatenate([np.concatenate(real, axis=2), gap, np.concatenate(made, axis=2)], axis=1)
    pictures = [Image.fromarray(frame) for frame in film]
    pictures[0].save(DOCS / "images" / "generated.gif", save_all=True, append_images=pictures[1:], duration=83, loop=0)
    Image.fromarray(np.concatenate([film[0], film[4], film[8]], axis=1)).save(bench.out / "montage.png")


def figure(labels: dict[int, Figures], videos: Figures, joint: Figures, consistency: Figures) -> None:
    """Labels, consistency, speed against quality, and JVID."""
    plot, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(9, 7.4), layout="constrained")
    for n_frames, found in labels.items():
        a.plot(found["requested"], found["measured"], ".", ms=4, label=f"{n_frames} frames, R² {found['r2']:.2f}")
    a.plot([10, 90], [10, 90], color="black", lw=0.8)
    a.set(xlabel="requested EF (%)", ylabel="EF read off the video (%)", title="Labels")
    a.legend(fontsize=8)
    lag = np.array(consistency["lag_share"])
    for name, colour in (("real", "tab:green"), ("synthetic", "tab:blue"), ("different", "tab:gray")):
        curve = consistency[name]
        b.fill_between(lag, curve["low"], curve["high"], color=colour, alpha=0.15)
        b.plot(lag, curve["median"], color=colour, label=name)
    b.set(xlabel="distance from the first frame (share of clip)", ylabel="logit", title="Consistency")
    b.legend(fontsize=8)
    for sampler, marker in (("ddpm", "s"), ("ddim", "^"), ("dpm++", "o")):
        rows = [row for row in videos["rows"] if row["sampler"] == sampler]
        c.plot([row["seconds"] for row in rows], [row["reid"] for row in rows], marker=marker, label=sampler)
        for row in rows:
            c.annotate(f" {row['steps']}", (row["seconds"], row["reid"]), fontsize=8)
    c.set(
        xlabel="seconds for a video of 64 frames",
        ylabel="Fréchet distance, re-identification features",
        title="Samplers and steps",
    )
    c.legend(fontsize=8)
    d.plot([row["together"] for row in joint["rows"]], [row["latents"] for row in joint["rows"]], "o-")
    for row in joint["rows"]:
        d.annotate(f" {row['share']:g}", (row["together"], row["latents"]), fontsize=8)
    d.axvline(joint["real"]["together"], color="tab:green", lw=0.8)
    d.set(
        xlabel="logit between frames of a clip (green: real)",
        ylabel="Fréchet distance of frames, VAE latents",
        title="JVID: share of image steps",
    )
    plot.savefig(DOCS / "images" / "generator.png", dpi=110)


def inside(consistency: Figures) -> float:
    """Share of lags at which the synthetic median lies in the real band."""
    median = np.array(consistency["synthetic"]["median"])
    real = consistency["real"]
    return float(np.mean((median >= np.array(real["low"])) & (median <= np.array(real["high"]))))


def trained(kind: str, log: pd.DataFrame) -> str:
    """How long the last training of a model was, and what came of it."""
    loss = log["val_loss"]
    return (
        f"{kind.upper()}: {len(log)} epochs, {int(log['step'].iloc[-1])} steps, {log['seconds'].sum() / 60:.0f} min "
        f"(validation loss {loss.iloc[0]:.3f} → {loss.iloc[-1]:.3f})"
    )


def met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


COMMANDS = """a4c="--view a4c --frames 32 --fps 12"
clinic="$a4c --patients 600 --clips-per-patient 2 --val-share 0.08 --holdout-share 0.22 --seed 40"
wide="$a4c --patients 2400 --clips-per-patient 1 --val-share 0.03 --holdout-share 0 --seed 41"
mnemoscope phantom runs/generator/clips $clinic                   # EF as in a clinic
mnemoscope phantom runs/even/clips $clinic --ef-spread even       # the same patients, EF evenly over 9-91 %
mnemoscope phantom runs/wide/clips $wide --ef-spread even         # many others, for motion
for name in generator even; do mnemoscope encode runs/$name/clips --out runs/$name/latents; done
mnemoscope encode runs/wide/clips --out runs/wide/latents --scaling-from runs/even/latents
for model in lidm lvdm; do
  mnemoscope train $model --store runs/generator/latents --out runs/generator/$model \\
    --config benchmarks/recipes/$model.yaml
  mnemoscope train $model --store runs/even/latents --out runs/even/$model \\
    --config benchmarks/recipes/$model-even.yaml                  # starts from the first
done
mnemoscope train lvdm --store runs/wide/latents --out runs/wide/lvdm \\
  --config benchmarks/recipes/lvdm-wide.yaml                      # starts from the second
python -m benchmarks.generator --out runs/even --bundle"""


def guidance_section(bench: Bench) -> str:
    """How weight and response were chosen when the models were bundled."""
    clips = " and ".join(f"{count} of {n_frames} frames" for n_frames, count in CHOOSING.items())
    record = bench.video_record
    told, shown, joined = (
        ", ".join(f"{value:g}" for value in values)
        for values in (EF_TOLD, record.ef_shown, record.ef_shown_joined or record.ef_shown)
    )
    text = f"""## Guidance

The bundled record holds the weight of the EF ({record.guidance:g}) and what clips show then, both measured on clips
that are used in no other place ({clips}, the shorter ones cut from one window). Told {told} %, they show {shown} %;
those of joined windows alone show {joined} %. Sampling tells the model the EF that will show what was asked for."""
    if GUIDANCE_FILE.is_file():
        rows = pd.read_csv(GUIDANCE_FILE).to_numpy().tolist()
        text += f"""

Scatter is what is left of the EF shown once the response, a cubic, is taken out, in points of the EF told; the smallest
was chosen.

{table(GUIDANCE_COLUMNS, rows)}"""
    return text


def page(bench: Bench) -> str:
    """The page, from what was measured."""
    how = VideoSampling(steps=STEPS, guidance=bench.guidance)
    labels = {
        n: bench.kept(f"labels-{n}", partial(labels_at, bench, n, count, how), count) for n, count in EF_LENGTHS.items()
    }
    reader = {n: bench.kept(f"reader-{n}", partial(real_labels, bench, n)) for n in (16, 32)}
    audit = bench.audit()
    consistency = audit["consistency"]
    images = bench.kept("images", lambda: image_quality(bench))
    videos = bench.kept("videos", lambda: video_quality(bench))
    joint = bench.kept("joint", lambda: joint_quality(bench))
    few = bench.kept("few-real-clips", partial(few_real_clips, bench), COMPARED, of_choice=False)
    montage(bench)
    figure(labels, videos, joint, consistency)
    best = next(row for row in images["samplers"] if (row["sampler"], row["steps"]) == ("dpm++", 25))
    targets = [
        *(
            [f"{n} frames: R² of requested and measured EF", "≥ 0.85", f"{f['r2']:.3f}", met(f["r2"] >= 0.85)]
            for n, f in labels.items()
        ),
        *([f"{n} frames: MAE (EF points)", "≤ 6", f"{f['mae']:.2f}", met(f["mae"] <= 6)] for n, f in labels.items()),
        *(
            [
                f"Fréchet distance of frames, {words}, over its floor",
                "≤ 3",
                f"{best[space] / images['train'][space]:.2f}",
                met(best[space] <= 3 * images["train"][space]),
            ]
            for space, words in (("reid", "re-identification features"), ("latents", "VAE latents"))
        ),
        [
            "consistency: median within the real band",
            "100 % of lags",
            f"{inside(consistency):.0%}",
            met(inside(consistency) == 1),
        ],
    ]
    size = {
        kind: sum(f.stat().st_size for f in (BUNDLED_FOLDER / kind).rglob("*") if f.is_file()) / MB
        for kind in ("vae", "lidm", "lvdm")
    }
    logs = {kind: pd.read_csv(BUNDLED_FOLDER / kind / "log.csv") for kind in ("lidm", "lvdm")}
    privacy, recall = audit["privacy"], audit["recall"]
    return f"""# The bundled generator

Written by `python -m benchmarks.generator`, {torch.get_num_threads()} of the processor's cores at work ({
        platform.machine()
    }, no accelerator). An
image model (LIDM) and a video model (LVDM) over the latents of the bundled VAE, trained on a phantom cohort (apical
four-chamber, seed 40: 420 train patients with two clips of 32 frames at 12 frames per second), first with EF as in a
clinic, then with EF spread evenly over 9–91 %; at last the video model on one clip each of 2,328 others (seed 41).
Holdout are patients that no model saw. Sizes: VAE {size["vae"]:.1f} MB, LIDM {size["lidm"]:.1f} MB, LVDM {
        size["lvdm"]:.1f} MB. The VAE's own figures are in
[vae.md](vae.md).

![Real clips above, generated ones of EF 20, 40, 60 and 80 % below](../images/generated.gif)

## Targets

{table(["target", "asked", "measured", "met"], targets)}

EF is drawn evenly from 10 to 90 % and read off the decoded frames; clips are made in {STEPS} steps of DPM-Solver++ from
frames that the image model drew, with a guidance of {
        bench.guidance:g}, chosen on other clips (below). On real holdout clips the reader
itself has R² {reader[32]["r2"]:.3f} and MAE {reader[32]["mae"]:.2f} with 32 frames, {reader[16]["r2"]:.3f} and {
        reader[16]["mae"]:.2f} with 16. Clips of 64 and 128 frames are made of overlapping windows of {
        bench.video_record.window_frames
    }, those of 16 are cut from two; 16 frames last
{16 / float(bench.video_record.fps or 1):.2f} s, the slowest beat {SLOWEST_BEAT_S:.2f} s.

![Labels, consistency, samplers and JVID](../images/generator.png)

## Frames

Fréchet distance of {images["n"]} frames to as many holdout frames (four a clip).

{
        table(
            ["frames", "re-identification features", "VAE latents", "s an image"],
            [
                [
                    "train patients (the floor)",
                    f"{images['train']['reid']:.3f}",
                    f"{images['train']['latents']:.1f}",
                    "–",
                ],
                *(
                    [
                        f"{r['sampler']}, {r['steps']} steps",
                        f"{r['reid']:.3f}",
                        f"{r['latents']:.1f}",
                        f"{r['seconds']:.3f}",
                    ]
                    for r in images["samplers"]
                ),
                ["noise (the ceiling)", f"{images['noise']['reid']:.3f}", f"{images['noise']['latents']:.1f}", "–"],
            ],
        )
    }

{guidance_section(bench)}

## Videos

Labels and frames of {COMPARED} videos of 24 frames, one window; seconds of a video of 64 frames ({
        TIMED
    } timed). The frames that
they show were drawn in 25 steps, whose time is in the seconds. {COMPARED} clips are few patients, which a Fréchet
distance takes for far from all: {COMPARED} real clips of train patients are at {few["reid"]:.3f} and {
        few["latents"]:.1f}.

{
        table(
            ["sampler", "steps", "R²", "MAE", "FD, re-identification", "FD, latents", "s a video"],
            [
                [
                    r["sampler"],
                    r["steps"],
                    f"{r['r2']:.3f}",
                    f"{r['mae']:.2f}",
                    f"{r['reid']:.3f}",
                    f"{r['latents']:.1f}",
                    f"{r['seconds']:.2f}",
                ]
                for r in videos["rows"]
            ],
        )
    }

## JVID

In a share of the steps the image model predicts the clip's frames one by one.

{
        table(
            [
                "share of image steps",
                "FD of frames, re-identification",
                "FD of frames, latents",
                "logit between frames",
                "step from frame to frame",
                "R² of EF",
            ],
            [
                *(
                    [
                        f"{r['share']:g}",
                        f"{r['reid']:.3f}",
                        f"{r['latents']:.1f}",
                        f"{r['together']:.2f}",
                        f"{r['jump']:.3f}",
                        f"{r['r2']:.2f}",
                    ]
                    for r in joint["rows"]
                ),
                ["real clips", "–", "–", f"{joint['real']['together']:.2f}", f"{joint['real']['jump']:.3f}", "–"],
            ],
        )
    }

## What the audit says of it

{AUDITED} videos of {AUDITED_FRAMES} frames, EF as in the train clips: {privacy["flag_rate"]["value"]:.1%} flagged
(excess over holdout {privacy["excess_rate"]["value"]:.1%} [{privacy["excess_rate"]["low"]:.1%}, {
        privacy["excess_rate"]["high"]:.1%}]), {recall["learned"]} train clips
learned; verdict **{
        audit["verdict"]["status"]
    }**. A small cohort and a long training: a generator that knows its patients.

## How it was trained

The last training of each: {", ".join(trained(kind, log) for kind, log in logs.items())}; both beside
other work on two shared cores. Recipe and log lie beside the weights (`training.yaml`, `log.csv`).

```
{COMMANDS}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/even"))
    parser.add_argument("--bundle", action="store_true")
    parser.add_argument("--guidance", action="store_true")
    given = parser.parse_args()
    if given.bundle:
        bundle(given.out)
    if given.bundle or given.guidance:
        choose_guidance(given.out)
    text = page(Bench(given.out))
    write_text(PAGE, text)
    print(text)


if __name__ == "__main__":
    main()
