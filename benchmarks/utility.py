"""Worth: what clips of the bundled generator are worth to train an EF regressor on, and why it is less than real ones.

    python -m benchmarks.utility --cohort runs/even --out runs/utility

Expects in ``--cohort`` the clips and latents that the bundled generator was trained on (docs/results/generator.md says
how they are made). Samples clips, audits them, trains every arm of the paper's Table 5 and those that split the gap,
and writes docs/results/utility.md. What is finished in ``--out`` is kept.
"""

import argparse
import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks import release
from benchmarks.rows import Row
from mnemoscope.audit.run import AuditConfig
from mnemoscope.cli.audit import audited
from mnemoscope.cli.downstream import downstream
from mnemoscope.cli.sample import VideosConfig, sample_videos
from mnemoscope.core.files import read_json, write_text
from mnemoscope.core.provenance import STAGE_FILE
from mnemoscope.core.types import AuditResult, Estimate
from mnemoscope.downstream.decompose import Part
from mnemoscope.downstream.results import PAPER, ArmResult, DownstreamResult
from mnemoscope.downstream.run import DownstreamConfig
from mnemoscope.downstream.table import LABELS, markdown, title, told
from mnemoscope.models.generator import BUNDLED

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PAGE = Path(__file__).parents[1] / "docs" / "results" / "utility.md"
TARGET_R2 = 0.85
PICTURE = PAGE.parents[1] / "images" / "utility.png"
FRAMES, STEPS = 24, 8  # one window of the generator, more than the small regressor sees at once


def watch(stage: str, done: int, total: int, unit: str) -> None:
    """A line at the end of each stage."""
    if done == total:
        print(f"{stage}: {total} {unit}s", flush=True)


def run(cohort: Path, out: Path, *, count: int, ef: str, config: DownstreamConfig) -> None:
    """Samples, audits, trains all arms and writes the page."""
    sampling = VideosConfig(lidm=BUNDLED, lvdm=BUNDLED, count=count, frames=FRAMES, steps=STEPS, ef=ef, seed=2)
    sampled = sample_videos(out=out / "sampled", config=sampling, progress=watch)
    assert sampled.clips is not None  # decoded, as latents_only is off
    # Latents are audited as they were drawn, so that nothing is encoded twice.
    looked_at = audited(cohort / "latents", sampled.latents.folder, out / "audit", AuditConfig(), watch)
    result = downstream(
        real=cohort / "clips",
        synthetic=sampled.clips,
        audit=out / "audit",
        out=out / "downstream",
        config=config,
        progress=watch,
    )
    picture(result)
    write_text(PAGE, page(result, looked_at.result, release.run(), out / "downstream", config, sampling))


def page(
    result: DownstreamResult,
    audit: AuditResult,
    released: Sequence[Row],
    out: Path,
    config: DownstreamConfig,
    sampling: VideosConfig,
) -> str:
    """The page, from what was measured."""
    full = arm(result, "real_full")
    both = released[-1]
    speed = f"{both.value:.0f} s | ≤ {both.target:.0f} s | {_met(bool(both.met))}"
    real = (
        f"{name} {s.clips:,} clips of {s.patients:,} patients" for name, s in audit.sets.items() if name != "synthetic"
    )
    sizes = f"{', '.join(real)}, synthetic {audit.sets['synthetic'].clips:,} clips"
    words = "bfloat16" if config.recipe().loop.precision == "bf16" else "float32"
    privacy = f"{audit.privacy.flagged} are flagged and left out" if audit.privacy else "nothing is flagged"
    recall = f"{audit.recall.learned} train clips are learned" if audit.recall else "recall was not measured"
    options = f"--seeds {config.seeds} --precision {config.recipe().loop.precision} --relabel {config.relabel}"
    about = (
        f"Written by `python -m benchmarks.utility {options}`: a phantom cohort and clips of the bundled generator "
        f"({sizes}; EF as `{sampling.ef}`, {sampling.frames} frames, {sampling.steps} steps). Of the synthetic clips "
        f"{privacy}; {recall}, {arm(result, 'real_learned').clips} of them by unflagged clips. An R(2+1)D regressor "
        f"(preset `{config.preset}`, {words}) is trained on every arm, "
        f"{config.seeds} times, its checkpoint chosen on patients of the same arm, and tested on the real holdout, "
        f"which nothing else has looked at. Every training sees as many windows, however many clips its arm has; "
        f"controls are drawn at random. True EF is what the phantom's reader reads."
    )
    return f"""# What synthetic clips are worth

{textwrap.fill(about, 120, break_on_hyphens=False)}

## Target

| what | measured | target | met |
| --- | --- | --- | --- |
| R² of all real clips, small preset | {told(full.r2)} | ≥ {TARGET_R2} | {_met(full.r2.value >= TARGET_R2)} |
| export and verify of 10,000 clips (`mnemoscope bench release`; {both.note}) | {speed} |

![R² of every arm, and the parts of the gap](../images/utility.png)

## The arms, beside the paper's Table 5, and the parts of the gap

The paper's numbers are of EchoNet and of R(2+1)D-18; they stand beside ours for the order of the arms, not for their
height. Parts in italics (in the picture in brackets) are interventions on real clips, and the gap itself.

{markdown(result)}

## What the parts say

{says(result)}

## Cost

{cost(out)} {platform.processor() or platform.machine()}, {platform.system()}.
"""


def picture(result: DownstreamResult) -> None:
    """R² of every arm and the parts of the gap, with their intervals."""
    plot, (arms, parts) = plt.subplots(
        1, 2, figsize=(13, 0.3 * len(result.arms) + 1), layout="constrained", width_ratios=(3, 2)
    )
    for source, color in (("real", "#1f5fa8"), ("synthetic", "#c4572e")):
        those = [(row, one) for row, one in enumerate(result.arms) if one.source == source]
        _intervals(arms, [(row, one.r2) for row, one in those], color, label=f"{source} clips")
    names = [f"{title(one.name)} ({LABELS[one.labels]})" for one in result.arms]
    arms.set(title="R² on the real holdout (EF to learn)", yticks=range(len(names)), yticklabels=names)
    arms.legend(frameon=False)
    _intervals(parts, [(row, part.loss) for row, part in enumerate(result.parts)], "#444444")
    parts.axvline(0, color="0.7", lw=1, zorder=0)
    named = [part.name if part.adds_up else f"({part.name})" for part in result.parts]
    parts.set(title="Loss of R²", yticks=range(len(named)), yticklabels=named)
    for axes in (arms, parts):
        axes.invert_yaxis()
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    plot.savefig(PICTURE, dpi=110)
    plt.close(plot)


def _intervals(axes: Any, rows: Sequence[tuple[int, Estimate]], color: str, label: str | None = None) -> None:
    value = [one.value for _, one in rows]
    spread = [[one.value - one.low for _, one in rows], [one.high - one.value for _, one in rows]]
    axes.errorbar(value, [row for row, _ in rows], xerr=spread, fmt="o", ms=4, lw=1.5, color=color, label=label)


def arm(result: DownstreamResult, name: str) -> ArmResult:
    """The arm of this name."""
    return next(one for one in result.arms if one.name == name)


def says(result: DownstreamResult) -> str:
    """The parts in sentences, the paper's explanation beside them."""
    parts = {part.name: part for part in result.parts}
    if "gap" not in parts:
        return "Nothing: an arm is missing."
    gap = parts["gap"]
    lines = [f"- From all real to all synthetic clips R² falls by {told(gap.loss)}."]
    summed = sorted((p for p in result.parts if p.adds_up), key=lambda p: -p.loss.value)
    lines += [f"- {part.name.capitalize()} ({part.change}): {told(part.loss)}, {_clear(part)}." for part in summed]
    read = [one for one in result.arms if one.name == "synthetic_full_relabelled"]
    lines += [
        f"- Read by a regressor of real clips, the labels of the same clips give R² {told(one.r2)} in place of "
        f"{told(arm(result, 'synthetic_full').r2)}."
        for one in read
    ]
    probes = ("coverage, on real clips", "label noise, on real clips")
    lines += [
        f"- {parts[n].name.capitalize()}: {told(parts[n].loss)}, {_clear(parts[n])}." for n in probes if n in parts
    ]
    if probes[0] in parts:
        real, learned, synthetic = (PAPER[name][0][0] for name in ("real_full", "real_learned", "synthetic_full"))
        lines.append(
            f"- The paper explains its gap ({real - synthetic:.2f} on EchoNet-Dynamic) by missing coverage; its own "
            f"real clips cut to the learned ones lose {real - learned:.2f}, without a control of that size. Here "
            f"coverage, against such a control, is {told(parts[probes[0]].loss)} of {gap.loss.value:.2f}."
        )
    return "\n".join(lines)


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _clear(part: Part) -> str:
    if part.loss.low <= 0 <= part.loss.high:
        return "which is no clear effect"
    return "a loss" if part.loss.value > 0 else "a gain"


def cost(out: Path) -> str:
    """Seconds of the trainings, from the records of their stages."""
    seconds = [read_json(file)["made_in"]["seconds"] for file in sorted(out.glob(f"*-[0-9]*/{STAGE_FILE}"))]
    return f"{len(seconds)} stages of training and relabelling, {sum(seconds) / 60:.0f} minutes in all, on"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, default=Path("runs/even"))
    parser.add_argument("--out", type=Path, default=Path("runs/utility"))
    parser.add_argument("--count", type=int, default=940, help="synthetic clips")
    parser.add_argument("--ef", default="prior", help="requested EF, as mnemoscope sample videos --ef")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=["no", "bf16"], default="no", help="bf16 where the processor has it")
    parser.add_argument("--relabel", choices=["off", "on", "both"], default="both")
    given: Any = parser.parse_args()
    ef = {"loop": {"precision": given.precision}}
    config = DownstreamConfig(seeds=given.seeds, relabel=given.relabel, ef_reader="phantom", ef=ef)
    run(given.cohort, given.out, count=given.count, ef=given.ef, config=config)


if __name__ == "__main__":
    main()
