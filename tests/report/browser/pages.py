"""Pages of a full audit to open in a browser."""

from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.report.material import Material, Pair, Portrait
from mnemoscope.report.pictures import film_uri
from tests.report import full
from tests.report.test_page import HOSTILE, run_record

PAIRS = 12
FORMULA = '=HYPERLINK("x")'


def film(seed: int) -> str:
    clip = np.random.default_rng(seed).integers(0, 256, (6, 24, 24), dtype=np.uint8)
    return film_uri(clip, clip[::-1])


def pairs(samples: pd.DataFrame, count: int = PAIRS) -> list[Pair]:
    closest = samples.sort_values("p_max", ascending=False).head(count)
    return [
        Pair(
            clip_id=str(row.clip_id),
            train_clip_id=str(row.nearest_clip_id),
            train_patient_id=f"patient-{number:02d}",
            similarity=row.p_max,
            learned_for=number % 3 != 0,
            ssim=row.ssim if row.ssim == row.ssim else None,
            copy_of="t0007" if number in (1, 4) else "",
            ef=35.0 + 5 * (number % 4),
            stratum=("5–40", "40–45", "40–45", "100–200")[number % 4],
            picture=film(number),
        )
        for number, row in enumerate(closest.itertuples())
    ]


def places(samples: pd.DataFrame, holdout: pd.DataFrame, seed: int = 3) -> pd.DataFrame:
    train = [f"t{i:04d}" for i in range(full.TRAIN)]
    names = {"train": train, "holdout": holdout["clip_id"].tolist(), "synthetic": samples["clip_id"].tolist()}
    table = pd.DataFrame(
        [(clip_id, name) for name, ids in names.items() for clip_id in ids], columns=["clip_id", "set"]
    )
    x, y = np.random.default_rng(seed).normal(size=(2, len(table)))
    return table.assign(x=x, y=y)


def material(**changed: Any) -> Material:
    """A full audit's material, two clips of it with hostile names."""
    samples, holdout = full.samples(), full.holdout()
    closest = samples["p_max"].nlargest(2).index
    samples.loc[closest, "clip_id"] = [HOSTILE, FORMULA]
    samples["nearest_patient_id"] = samples["nearest_clip_id"]
    where = places(samples, holdout)
    rng = np.random.default_rng(4)
    ladder = [
        pd.DataFrame({"rung": name, "p_max": rng.normal(7.0 + 2 * rate, 1.0, 200)})
        for name, rate in full.RUNG_TPR.items()
    ]
    parts: dict[str, Any] = {
        "result": full.result(),
        "samples": samples,
        "holdout": holdout,
        "patients": full.patients(),
        "record": run_record(),
        "pairs": pairs(samples),
        "missed": [Portrait(clip_id="t7000", patient_id="patient-x", group="EF < 30", picture=film(99))],
        "ladder": pd.concat(ladder, ignore_index=True),
        "places": where,
        "attributes": where[["clip_id", "set"]].assign(ef=np.linspace(15, 75, len(where)), Sex="F"),
        "thumbnails": {("synthetic", HOSTILE): film(0)},
    }
    return Material(**(parts | changed))
