"""Tables: one row per query clip, one row per train patient."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from mnemoscope.audit.ledger import Ledger
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.privacy import conformal_p
from mnemoscope.audit.recall import gated_queries


def query_table(
    queries: pd.DataFrame,
    train: pd.DataFrame,
    matches: Matches,
    *,
    p_max_holdout: np.ndarray,
    tau: float,
    gate: float | None,
    exchangeable: bool,
    like_real: np.ndarray | None = None,
) -> pd.DataFrame:
    """``samples.parquet`` and ``holdout.parquet``.

    Args:
        queries: clip table of the queries, in the order of ``matches``.
        train: clip table of the gallery.
        matches: nearest train clip of each query.
        p_max_holdout: reference of the conformal p-value.
        tau: threshold of the flag.
        gate: threshold of counting as having learned.
        like_real: queries that look like real clips, (N,); None where nobody looked.
        exchangeable: whether the queries are the holdout itself, whose p-values leave the clip itself out.
    """
    nearest = train.iloc[matches.nearest].reset_index(drop=True)
    gated = gated_queries(matches.p_max, gate, like_real)
    own = 1.0 if exchangeable else 0.0
    size = len(p_max_holdout)
    p = (conformal_p(matches.p_max, p_max_holdout) * (1 + size) - own) / (1 + size - own)
    return pd.DataFrame(
        {
            "clip_id": queries["clip_id"].to_numpy(),
            "patient_id": queries["patient_id"].to_numpy(),
            "p_max": matches.p_max,
            "nearest_clip_id": nearest["clip_id"],
            "nearest_patient_id": nearest["patient_id"],
            "query_frame": matches.query_frame,
            "gallery_frame": matches.gallery_frame,
            "conformal_p": p,
            "flagged": matches.p_max > tau,
            "gated": gated,
            "learned_for": nearest["clip_id"].where(pd.Series(gated), None),
        }
    )


def patient_table(ledger: Ledger) -> pd.DataFrame:
    """``patients.parquet``."""
    return pd.DataFrame(asdict(ledger))
