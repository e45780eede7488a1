"""Beside the paper: what models were found to do, as the paper's Tables 1 to 4, each number beside the printed one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mnemoscope.audit.run.paper import FIGURES, GENERALISATION, HEADS, IDENTIFICATION, LEARNED, SETS, TITLES
from mnemoscope.audit.run.reproduce import Measured
from mnemoscope.core.types import AuditResult, Estimate

Row = dict[str, Any]

_HEAD_TITLES = {"pred": "Pred", "l1": "L1", "l2": "L2", "corr": "Corr", "cosine": "cosine"}


def tables(found: Sequence[Measured]) -> dict[str, list[Row]]:
    """The content of ``tables.json``; ``paper`` in a row is null where the paper prints nothing.

    A mean is null where one of its parts is; ``absent`` says why.

    Args:
        found: every train set on every test set, in one or two spaces.
    """
    return {
        "identification": [_identification(tested) for tested in found if tested.train == tested.test],
        "generalisation": [_generalisation(tested) for tested in found],
        "heads": [row for space in _spaces(found) for row in _heads([t for t in found if t.space == space], space)],
        "absent": [
            {"space": tested.space, "train": tested.train, "test": tested.test, "what": what, "why": why}
            for tested in found
            for what, why in tested.absent.items()
        ],
    }


def learned(results: Mapping[str, AuditResult]) -> list[Row]:
    """Table 4, a row for each audited set; what an audit did not measure is null.

    Args:
        results: audits of synthetic clips, by set.
    """
    names = ("train", "learned", "flag_rate", "learned_and_flagged")
    return [
        {
            "set": name,
            "train": result.sets["train"].clips,
            "synthetic": result.sets["synthetic"].clips,
            **{part: result.recall and getattr(result.recall, part) for part in ("learned", "learned_and_flagged")},
            **{part: result.privacy and asdict(getattr(result.privacy, part)) for part in ("flag_rate", "excess_rate")},
            "ratio": result.recall and result.recall.matched and asdict(result.recall.matched.ratio),
            "paper": dict(zip(names, LEARNED[name], strict=True)),
        }
        for name, result in results.items()
    ]


def _spaces(found: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(tested.space for tested in found))


def _identification(tested: Measured) -> Row:
    """Table 1 and Fig. 3."""
    verified = tested.verification
    return {
        "space": tested.space,
        "set": tested.test,
        "clips": tested.clips,
        "auc": asdict(verified.auc),
        **{name: getattr(verified, name) for name in FIGURES[1:]},
        "confusion": verified.confusion,
        "training_s": tested.training_s,
        "paper": dict(zip(FIGURES, IDENTIFICATION[tested.space][tested.test], strict=True)),
    }


def _generalisation(tested: Measured) -> Row:
    """Table 2."""
    auc, mean, std = GENERALISATION[tested.space][tested.train][SETS.index(tested.test)]
    return {
        "space": tested.space,
        "train": tested.train,
        "test": tested.test,
        "auc": asdict(tested.verification.auc),
        "mcc": {"mean": tested.mcc_mean, "std": tested.mcc_std},
        "paper": {"auc": auc, "mcc": {"mean": mean, "std": std}},
    }


def _heads(found: Sequence[Measured], space: str) -> list[Row]:
    """Table 3."""
    of_pair = {(tested.train, tested.test): tested.verification.heads for tested in found}
    printed = {
        head: {(SETS[train], SETS[test]): aucs[test][train] for train in range(len(SETS)) for test in range(len(SETS))}
        for head, aucs in HEADS.items()
    }
    return [
        {
            "space": space,
            "head": head,
            "auc": _means({pair: _known(heads[head]) for pair, heads in of_pair.items()}),
            "paper": _means(printed[head]) if space == "latent" and head in printed else None,
        }
        for head in _HEAD_TITLES
    ]


def _known(auc: Estimate | None) -> float:
    return np.nan if auc is None else auc.value


def _means(auc: Mapping[tuple[str, str], float]) -> dict[str, float | None]:
    """Over all pairs of train and test set (the paper's "Total"), over those of two sets, and over the own sets."""
    kinds = {
        "all": list(auc.values()),
        "other": [value for (train, test), value in auc.items() if train != test],
        "own": [value for (train, test), value in auc.items() if train == test],
    }
    means = {kind: float(np.mean(values)) for kind, values in kinds.items()}
    return {kind: None if np.isnan(mean) else mean for kind, mean in means.items()}


def markdown(rows: dict[str, list[Row]], *, origin: Sequence[str]) -> str:
    """Tables 1 to 4 as far as there are rows: ours / the paper's.

    Args:
        rows: see :func:`tables`; those of :func:`learned` as ``learned``.
        origin: sentences about the data.
    """
    parts = [
        "# The paper's tables",
        "Each cell: here / in the paper (Dombrowski et al. 2024, arXiv 2411.04956).\n" + "\n".join(origin),
        "## Table 1: identification on the own holdout",
        _table(
            ["space", "set", "clips", "AUC (95 %)", "accuracy", "F1", "precision", "recall", "training, s"],
            [_identification_cells(row) for row in rows["identification"]],
        ),
        "Decisions at logit 0, one pair of each kind a clip; Fig. 3 is `figures/fig3-confusion.png`.",
        "## Table 2: generalisation",
        _table(["space", "train", *(f"test {TITLES[name]}" for name in SETS)], _generalisation_cells(rows)),
        "AUC, and below it mean ± standard deviation over videos of the correlation between different frames of one "
        "(the paper counts each frame with itself too).",
        *_compared(rows["generalisation"]),
        "## Table 3: heads",
        _table(
            ["space", "head", "all pairs of sets", "two sets", "own set"],
            [_head_cells(row) for row in rows["heads"]],
        ),
        "Mean AUC; the paper's mean over two sets and over the own set follow from its cells.",
        *_learned_part(rows.get("learned") or []),
    ]
    return "\n\n".join(parts) + "\n"


def _table(heading: list[str], body: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _identification_cells(row: Row) -> list[str]:
    auc, paper = Estimate(**row["auc"]), row["paper"]
    interval = f"{auc.value:.3f} [{auc.low:.3f}–{auc.high:.3f}] / {paper['auc']:.3f}"
    rates = [f"{row[name]:.3f} / {paper[name]:.3f}" for name in FIGURES[1:]]
    return [row["space"], TITLES[row["set"]], str(row["clips"]), interval, *rates, f"{row['training_s']:.0f}"]


def _generalisation_cells(rows: dict[str, list[Row]]) -> list[list[str]]:
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows["generalisation"]:
        paper = row["paper"]
        cell = f"{row['auc']['value']:.3f} / {paper['auc']:.3f}<br>{_spread(row['mcc'])} / {_spread(paper['mcc'])}"
        lines.setdefault((row["space"], row["train"]), []).append(cell)
    return [[space, TITLES[train], *cells] for (space, train), cells in lines.items()]


def _spread(mcc: dict[str, float]) -> str:
    return f"{mcc['mean']:.2f} ± {mcc['std']:.2f}"


def _compared(rows: list[Row]) -> list[str]:
    """How often latents do better, where both spaces were tried."""
    by_key = {(row["space"], row["train"], row["test"]): row for row in rows}
    if len({space for space, _, _ in by_key}) < 2:
        return []
    pairs = [(train, test) for space, train, test in by_key if space == "latent"]
    other = [pair for pair in pairs if pair[0] != pair[1]]

    def outcome(value: Callable[[Row], float], chosen: list[tuple[str, str]], digits: int) -> str:
        rounded = [[round(value(by_key[space, *pair]), digits) for space in ("latent", "image")] for pair in chosen]
        above, equal = sum(ours > other for ours, other in rounded), sum(ours == other for ours, other in rounded)
        return f"{above} of {len(chosen)} cases" + (f" and equal in {equal}" if equal else "")

    auc = outcome(lambda row: row["auc"]["value"], other, 3), outcome(lambda row: row["paper"]["auc"], other, 3)
    mcc = (
        outcome(lambda row: row["mcc"]["mean"], pairs, 2),
        outcome(lambda row: row["paper"]["mcc"]["mean"], pairs, 2),
    )
    return [
        f"Latent above image space, as printed: AUC on other sets in {auc[0]} (paper: {auc[1]}); correlation in "
        f"{mcc[0]} (paper: {mcc[1]})."
    ]


def _head_cells(row: Row) -> list[str]:
    def cell(kind: str) -> str:
        both = row["auc"], row["paper"]
        return " / ".join("–" if part is None or part[kind] is None else f"{part[kind]:.3f}" for part in both)

    return [row["space"], _HEAD_TITLES[row["head"]], *(cell(kind) for kind in ("all", "other", "own"))]


def _learned_part(rows: list[Row]) -> list[str]:
    """Table 4, sets in columns as in the paper."""
    if not rows:
        return []

    def share(row: Row, part: str) -> str:
        return "–" if row[part] is None else f"{row[part]:,} ({row[part] / row['train']:.1%})"

    def count(row: Row) -> str:
        return "–" if row["learned_and_flagged"] is None else f"{row['learned_and_flagged']:,}"

    def interval(found: dict[str, float] | None, form: str) -> str:
        return "–" if found is None else f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"

    lines: dict[str, Callable[[Row], str]] = {
        "train clips": lambda row: f"{row['train']:,} / {row['paper']['train']:,}",
        "synthetic clips": lambda row: f"{row['synthetic']:,} / 100,000",
        "learned": lambda row: f"{share(row, 'learned')} / {share(row['paper'], 'learned')}",
        "flagged (“memorized”)": lambda row: f"{interval(row['flag_rate'], '.1%')} / {row['paper']['flag_rate']:.1%}",
        "learned but memorized": lambda row: f"{count(row)} / {count(row['paper'])}",
        "flagged beyond strangers": lambda row: f"{interval(row['excess_rate'], '+.1%')} / –",
        "reached at equal n, in times of strangers": lambda row: f"{interval(row['ratio'], '.2f')} / –",
    }
    heading = ["", *(TITLES[row["set"]] for row in rows)]
    return [
        "## Table 4: learned and memorized train clips",
        _table(heading, [[name, *map(cell, rows)] for name, cell in lines.items()]),
        "“Learned” grows with the number of synthetic clips; the last line, which the paper lacks, compares equal "
        "numbers.",
    ]
