"""Ejection fractions to ask for: drawn uniformly, from the train clips' distribution, or given in a list."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.core.rng import generator
from mnemoscope.data.manifest import read_table
from mnemoscope.models.generator import GeneratorRecord


def requested_ef(rule: str, ids: Sequence[str], record: GeneratorRecord, *, seed: int) -> np.ndarray:
    """EF in percent for each sample, (N,); a drawn one depends on (seed, its id) alone.

    Args:
        rule: ``uniform`` (10–90), ``uniform:LOW:HIGH``, ``prior`` (as the train clips), or a CSV or Parquet file with
            a column EF whose rows are taken in order.
        ids: names of the samples.
        record: of the video model, for the prior.
        seed: of the set.

    Raises:
        ConfigError: for a rule that is none of these, or bounds outside 0–100.
        InputError: for a list that is too short, has no column EF, or values that are missing or outside 0–100.
    """
    draws = np.array([generator(seed, "ef", name).random() for name in ids])
    if rule == "prior":
        if not record.ef_quantiles:
            raise ConfigError("--ef prior: the model's record holds no EF distribution; choose uniform or a file")
        return np.interp(draws, np.linspace(0, 1, len(record.ef_quantiles)), record.ef_quantiles)
    if rule.partition(":")[0] == "uniform":
        low, high = _bounds(rule)
        return low + draws * (high - low)
    return _listed(rule, len(ids))


def _bounds(rule: str) -> tuple[float, float]:
    parts = rule.split(":")[1:] or ["10", "90"]
    try:
        low, high = (float(part) for part in parts)
    except ValueError as error:
        raise ConfigError(f"--ef {rule}: expected uniform:LOW:HIGH, such as uniform:10:90") from error
    if not 0 <= low <= high <= 100:
        raise ConfigError(f"--ef {rule}: expected 0 ≤ LOW ≤ HIGH ≤ 100 percent, got {low:g} and {high:g}")
    return low, high


def _listed(rule: str, count: int) -> np.ndarray:
    path = Path(rule)
    if not path.is_file():
        raise ConfigError(f"--ef {rule}: expected uniform, uniform:LOW:HIGH, prior or a file with a column EF")
    table = read_table(path)
    columns = {str(name).lower(): name for name in table.columns}
    if "ef" not in columns:
        raise InputError(
            f"{path}: expected a column named EF in its first line, found {', '.join(map(str, table.columns))}"
        )
    if len(table) < count:
        raise InputError(f"{path}: expected {count} rows, one for each sample, found {len(table)}; lower --count")
    ef = pd.to_numeric(table[columns["ef"]], errors="coerce").to_numpy(dtype=np.float64)[:count]
    wrong = np.flatnonzero(~((ef >= 0) & (ef <= 100)))
    if len(wrong):
        first = table[columns["ef"]].iloc[wrong[0]]
        others = f" and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
        raise InputError(
            f"{path}: expected EF from 0 to 100 percent, found {'nothing' if pd.isna(first) else first} in row "
            f"{wrong[0] + 1}{others}; correct the list"
        )
    return np.asarray(ef)
