"""``mnemoscope reproduce``: the paper's Tables 1 to 5 and Figures 3 to 6 again, each number beside the printed one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from mnemoscope.audit.run.beside_paper import learned, markdown, tables
from mnemoscope.audit.run.paper import SETS, TITLES
from mnemoscope.audit.run.reproduce import (
    ENCODED_S,
    Measured,
    ReproduceConfig,
    expected_s,
    expected_size,
    n_frames_of,
    real_folder,
    trained_and_tested,
)
from mnemoscope.cli.audit import audit
from mnemoscope.cli.downstream import downstream
from mnemoscope.cli.report import report_figures
from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import build, merged
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.core.files import write_json, write_text
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run, input_folder
from mnemoscope.core.types import AuditResult
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.manifest import Manifest
from mnemoscope.downstream.results import DownstreamResult
from mnemoscope.downstream.run import DownstreamConfig
from mnemoscope.downstream.sets import require_ef
from mnemoscope.downstream.table import markdown as worth_table
from mnemoscope.report.words import seconds

TABLES, PAGE = "tables.json", "tables.md"
AUDITS, WORTH, FIGURES = "audits", "downstream", "figures"
_PRESETS = {"default": "small", "paper": "paper"}
# Seconds on two cores: auditing a synthetic clip, beside encoding it; and training on a window.
_AUDITED_S = 1 / 100
_WINDOW_S = {"small": 6e-3, "paper": 40.0}
T = TypeVar("T")


@dataclass
class _Made:
    """What there is of the synthetic sets, by set, and by a name of what is absent: why."""

    audits: dict[str, AuditResult] = field(default_factory=dict)
    worth: dict[str, DownstreamResult] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """What ``make`` gives; too few clips for one part do not take the others away."""
        try:
            return make()
        except TooFewSamples as error:
            self.absent[what] = str(error)
            return None


def reproduce(
    *,
    out: Path | str,
    dynamic: Path | str | None = None,
    pediatric: Path | str | None = None,
    synthetic: Path | str | None = None,
    config: ReproduceConfig | None = None,
    progress: Progress = unwatched,
) -> dict[str, Any]:
    """The paper's tables (``tables.json``, ``tables.md``) and Figures 3 to 6 (``figures/``) in ``out``.

    Args:
        out: folder of the run; what was finished there before is reused where its inputs are unchanged.
        dynamic: folder of EchoNet-Dynamic; without it a phantom cohort in its layout is drawn.
        pediatric: folder of EchoNet-Pediatric with ``A4C`` and ``PSAX``; likewise.
        synthetic: folder with a synthetic set of each, see ``docs/reproduction.md``; without it, Tables 4 and 5 and
            Figures 4 to 6 are not made.
        config: settings.
        progress: told how far the stages are.

    Returns:
        The content of ``tables.json``.

    Raises:
        InputError: if a folder is not readable, lacks a split, or synthetic clips lack their EF.
    """
    config = config or ReproduceConfig()
    given = {"dynamic": _folder(dynamic), "pediatric": _folder(pediatric)}
    made = _Made()
    sets = synthetic_sets(_folder(synthetic), made.absent)
    config.of_audit("dynamic", Path(out))  # misspelt settings are named before anything is drawn
    _downstream_config(config, "dynamic", None, made, Path(out)).recipe()
    run = Run(
        Path(out),
        command="reproduce",
        # Synthetic sets may come later: what was made of the real ones stays.
        identity={name: folder and str(folder) for name, folder in given.items()},
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    with run.recording():
        found = trained_and_tested(run, **given, config=config, progress=progress)
        for name, clips in sets.items():
            with run.measured(f"synthetic-{name}"):
                _look_at(run.out, name, clips, real_folder(run.out, name, **given), made, config, progress)
        origin = [_origin(given, config), _sizes(found), *_lacks(made)]
        rows: dict[str, Any] = {"origin": origin, **tables(found), "learned": learned(made.audits)}
        rows["downstream"] = {name: result.to_json() for name, result in made.worth.items()}
        rows["not_made"] = made.absent
        write_json(run.out / TABLES, rows)
        write_text(run.out / PAGE, markdown(rows, origin=origin) + _table_5(made.worth))
        _figures(found, made, run.out)
    return rows


def synthetic_sets(folder: Path | None, absent: dict[str, str]) -> dict[str, Manifest]:
    """The listed clips of each synthetic set in a folder; why others are absent goes to ``absent``.

    Raises:
        InputError: if there is none, a name fits two, or clips lack their EF.
    """
    if folder is None:
        absent["Tables 4 and 5, Figures 4 to 6"] = "they need synthetic sets (--synthetic DIR)"
        return {}
    inside = sorted(path for path in input_folder(folder, flag="--synthetic").iterdir() if path.is_dir())
    sets = {}
    for name in SETS:
        of_set = [path for path in inside if path.name.lower().endswith(name)]
        if len(of_set) > 1:
            raise InputError(
                f"--synthetic {folder}: expected one folder whose name ends in {name}, found "
                f"{', '.join(path.name for path in of_set)}; rename the others"
            )
        if not of_set:
            absent[f"{TITLES[name]} in Tables 4 and 5 and Figures 4 to 6"] = (
                f"--synthetic {folder} has no folder whose name ends in {name}"
            )
            continue
        sets[name] = read_layout(of_set[0], split="synthetic")
        require_ef(sets[name].clips, flag=f"--synthetic {of_set[0]}")
    if not sets:
        raise InputError(
            f"--synthetic {folder}: expected folders whose names end in {', '.join(SETS)}, each with FileList.csv and "
            f"Videos, found {', '.join(path.name for path in inside) or 'none'}"
        )
    return sets


def _look_at(
    out: Path, name: str, clips: Manifest, real: Path, made: _Made, config: ReproduceConfig, progress: Progress
) -> None:
    """The audit and the downstream test of one synthetic set, each a run of its own."""
    title, space = TITLES[name], config.chosen()[-1]
    audited = made.attempt(
        f"{title} in Tables 4 and 5 and Figures 4 to 6",
        lambda: audit(
            real=out / f"latents-{name}-{space}",
            synthetic=clips.root,
            out=out / AUDITS / title,
            config=config.of_audit(name, out / f"reid-{name}-{space}" / "model"),
            progress=progress,
        ),
    )
    if audited is None:
        return
    made.audits[name] = audited
    if audited.consistency is None:
        made.absent[f"{title} in Figure 6"] = audited.absent.get("consistency", "not measured")
    worth = made.attempt(
        f"{title} in Table 5",
        lambda: downstream(
            real=real,
            synthetic=clips.root,
            audit=out / AUDITS / title,
            out=out / WORTH / title,
            config=_downstream_config(config, name, clips, made, out),
            progress=progress,
        ),
    )
    if worth is not None:
        made.worth[name] = worth


def _downstream_config(
    config: ReproduceConfig, name: str, clips: Manifest | None, made: _Made, out: Path
) -> DownstreamConfig:
    """As in the paper: relabelled, and pediatric arms begin with the regressor of all Dynamic clips, if there is one.

    Real clips are brought to the frame rate of the synthetic ones.
    """
    own: dict[str, Any] = {"preset": _PRESETS[config.preset], "relabel": "on"}
    own |= {"seed": config.seed, "device": config.device}
    if clips is not None:
        own["target_fps"] = config.frames.target_fps or float(clips.clips["fps"].astype(float).median())
    if name != "dynamic" and "dynamic" in made.worth:
        start = out / WORTH / TITLES["dynamic"] / f"real_full-{config.seed}" / "model" / "model.safetensors"
        own["ef"] = {"start": str(start)}
    return build(DownstreamConfig, merged(own, config.downstream), prefix="downstream.")


def _folder(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path).resolve()


def _origin(given: Mapping[str, Path | None], config: ReproduceConfig) -> str:
    phantoms = [name for name, folder in given.items() if folder is None]
    if not phantoms:
        return f"The clips of {', '.join(str(folder) for folder in given.values())}, preset {config.preset}."
    return (
        f"Phantom cohorts of {config.patients} patients a view, {config.clips_per_patient} recordings each, stand in "
        f"for EchoNet ({', '.join(phantoms)}), preset {config.preset}: compare how spaces, sets and heads lie to each "
        f"other, not the levels. Pairs of one patient join frames of all recordings, in the paper of one video alone."
    )


def _sizes(found: list[Measured]) -> str:
    clips = {TITLES[tested.test]: tested.clips for tested in found}
    return f"Holdout clips: {', '.join(f'{name} {count}' for name, count in clips.items())}."


def _lacks(made: _Made) -> list[str]:
    return [f"Not made: {what}: {why}." for what, why in made.absent.items()]


def _table_5(worth: Mapping[str, DownstreamResult]) -> str:
    if not worth:
        return ""
    parts = [
        "\n## Table 5: training an EF regressor on each set",
        "Tested on real holdout clips. Beside each cut stand as many clips drawn at random. Pediatric arms begin with "
        "the regressor of all Dynamic clips"
        + ("." if "dynamic" in worth else " in the paper, here with nothing: there is no synthetic Dynamic set."),
    ]
    for name, result in worth.items():
        parts += [f"### {TITLES[name]}", worth_table(result, of=[TITLES[name]])]
    return "\n\n".join(parts) + "\n"


def _figures(found: list[Measured], made: _Made, out: Path) -> None:
    from mnemoscope.report.confusion import confusion_matrices, save_figure
    from mnemoscope.report.paper import CONFUSION

    if made.audits:
        report_figures([out / AUDITS / TITLES[name] for name in made.audits], out=out / FIGURES)
    # Of both spaces, where an audit knows its own alone.
    own = [tested for tested in found if tested.train == tested.test]
    panels = {(f"{tested.space} space", TITLES[tested.test]): tested.verification.confusion for tested in own}
    (out / FIGURES).mkdir(exist_ok=True)
    save_figure(confusion_matrices(panels), out / FIGURES / CONFUSION)


_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--out", default=Path("runs/reproduce"), show_default=True, type=_PATH, help="Folder of the run.")
@click.option("--dynamic", type=_PATH, help="EchoNet-Dynamic, in place of a phantom cohort.")
@click.option("--pediatric", type=_PATH, help="EchoNet-Pediatric, in place of two.")
@click.option("--synthetic", type=_PATH, help="Synthetic sets in folders named dynamic, a4c and psax; any of them.")
@settings(ReproduceConfig)
def command(
    out: Path, dynamic: Path | None, pediatric: Path | None, synthetic: Path | None, asked: Asked[ReproduceConfig]
) -> None:
    """The paper's Tables 1 to 5 and Figures 3 to 6, on EchoNet or on phantom cohorts in its layouts.

    \b
    Example: mnemoscope reproduce --out runs/tables
             mnemoscope reproduce --dynamic DYNAMIC --pediatric PEDIATRIC --synthetic SYNTHETIC --out runs/echonet
    """
    folders = {"dynamic": dynamic, "pediatric": pediatric}
    with asked.answering() as (config, progress):
        if asked.dry_run:
            places = {"out": out} | {name: folder or "phantom" for name, folder in folders.items()}
            show_plan(config, places | _plan(config, synthetic=_folder(synthetic), **folders))
            return
        rows = reproduce(out=out, **folders, synthetic=synthetic, config=config, progress=progress)
        if asked.as_json:
            show_json(rows)
        else:
            click.echo(f"{(out / PAGE).read_text(encoding='utf-8')}\n{out / PAGE}\n{out / FIGURES}")


def _plan(
    config: ReproduceConfig, *, dynamic: Path | None, pediatric: Path | None, synthetic: Path | None
) -> dict[str, object]:
    """What will be made, what will not and why, and what each part takes."""
    made = _Made()
    sets = synthetic_sets(synthetic, made.absent)
    parts = expected_s(config, dynamic=dynamic, pediatric=pediatric)
    for name, clips in sets.items():
        n_train, _ = expected_size(config, name, dynamic if name == "dynamic" else pediatric)
        encoding = n_frames_of(clips.clips, config.max_frames) * ENCODED_S[config.chosen()[-1]]
        parts[f"audit, {TITLES[name]}"] = encoding + len(clips) * _AUDITED_S
        worth = _downstream_config(config, name, clips, made, Path())
        parts[f"downstream, {TITLES[name]}"] = _windows(worth, n_train, len(clips)) * _WINDOW_S[worth.preset]
    of_all = "Tables 1 to 3 and Figure 3"
    of_sets = f"; of {', '.join(TITLES[name] for name in sets)} also Tables 4 and 5 and Figures 4 to 6" if sets else ""
    plan: dict[str, object] = {"makes": of_all + of_sets}
    plan |= {f"does not make {what}": why for what, why in made.absent.items()}
    plan |= {f"expected on two cores, {name}": seconds(part) for name, part in parts.items()}
    return plan | {"expected on two cores, together": seconds(sum(parts.values()))}


def _windows(worth: DownstreamConfig, real: float, synthetic: float) -> float:
    """Windows that all trainings together see, at most: of how many clips are learned nothing is known yet."""
    recipe, small, large = worth.recipe(), min(real, synthetic), min(5 * real, synthetic)
    # All real clips, the learned ones and a control; all synthetic ones, a random part, two recall sets and controls.
    clips = [real, real, real, synthetic, small, small, small, large, large]
    return worth.seeds * recipe.loop.epochs * (recipe.draws * len(clips) if recipe.draws else sum(clips))
