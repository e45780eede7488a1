"""Evidence: whether decoded frames show the same picture, asked without the re-identification model."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Bool, Num, UInt8
from scipy import fft, ndimage, optimize

from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Evidence, Flags, Scores

LEAST_SIDE_PX = 32
INNOCENT_SHARE = 0.05

# Wang et al. 2004: an 11 × 11 Gaussian window, and constants that keep the ratios of dark or flat windows finite.
_WINDOW_PX, _SIGMA_PX = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

_REDUCED_SIDE_PX = 28
_ROTATIONS_DEG = np.arange(-16.0, 17.0, 4.0)
_ZOOMS = 1.1 ** np.arange(-2.0, 3.0)
# The coarse search asks for a little more, so that refining has room.
_OVERLAP, _COARSE_OVERLAP = 0.6, 0.65
_STARTS, _EVALUATIONS = 2, 80
_SHOWN_SHARE = 0.2  # of the mean gray level
_NOTHING = -1e6
_LEAST_WINDOWS_SHARE = 0.01


@dataclass(frozen=True)
class Pose:
    """How a frame is laid onto another: mirrored, turned counter-clockwise and enlarged about its centre, shifted."""

    mirrored: bool
    rotation_deg: float
    zoom: float
    right_px: float
    down_px: float


@dataclass(frozen=True)
class _Picture:
    """Gray levels in float64, and where something is shown: what is black to the frame's edge is not."""

    gray: np.ndarray
    shown: np.ndarray

    @classmethod
    def of(cls, frame: np.ndarray) -> "_Picture":
        gray = frame.astype(np.float64)
        smooth = ndimage.gaussian_filter(gray, _SIGMA_PX)
        # Cavities are dark too, but enclosed.
        return cls(gray, ndimage.binary_fill_holes(smooth > _SHOWN_SHARE * smooth.mean()))

    def reduced(self, factor: int) -> "_Picture":
        return _Picture(_reduced(self.gray, factor), _reduced(self.shown, factor) > 0.5)


def aligned_ssim(a: UInt8[np.ndarray, "H W"], b: UInt8[np.ndarray, "H W"]) -> float:
    """Structural similarity of two gray frames, the first laid onto the second and its gain and offset matched.

    A copy that was moved, turned up to 16°, zoomed up to a fifth, mirrored, masked, brightened or recompressed stays
    far above what frames of two patients reach.

    Args:
        a: gray frame, at least 32 pixels high and wide.
        b: another of the same size.

    Returns:
        SSIM over the windows in which both frames show something, at most 1; 0 where these are less than 1 % of the
        frame, or where the frames correlate in no pose.

    Raises:
        Mismatch: if the frames differ in size.
        DegenerateValues: if a frame is too small or has one gray level only.
    """
    _require_alike(a, b)
    x, y = _Picture.of(a), _Picture.of(b)
    laid, both = _laid(x, y, _aligned(x, y))
    if _windows(both).mean() < _LEAST_WINDOWS_SHARE or _correlation(laid[both], y.gray[both]) <= 0:
        return 0.0
    return structural_similarity(_levelled(laid, y.gray, both), y.gray, both)


def structural_similarity(
    a: Num[np.ndarray, "H W"], b: Num[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]
) -> float:
    """Mean SSIM over all windows that lie wholly inside, of which there must be one; gray levels 0–255.

    Source: Wang et al. 2004, equation 13, with their constants.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return float((luminance * structure)[_windows(inside)].mean())


def align(a: UInt8[np.ndarray, "H W"], b: UInt8[np.ndarray, "H W"]) -> Pose:
    """The pose of ``a`` in which it correlates best with ``b`` where both show something.

    A grid of mirrorings, rotations and zooms is searched on reduced frames, every shift at once by masked correlation;
    the best are refined on the whole frames. At least 60 % of the smaller picture lies on the other.

    Source: Padfield 2012, equation 9, for the masked correlation.
    """
    return _aligned(_Picture.of(a), _Picture.of(b))


def _aligned(x: _Picture, y: _Picture) -> Pose:
    factor = max(1, min(x.gray.shape) // _REDUCED_SIDE_PX)
    starts = _coarse_poses(x.reduced(factor), y.reduced(factor))
    found = [_refined(x, y, replace(s, right_px=s.right_px * factor, down_px=s.down_px * factor)) for s in starts]
    return max(found, key=lambda pose: _overlap_correlation(x, y, pose))


def _moved(x: _Picture, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Gray levels in a pose, bilinear, 0 where nothing is shown; and where something is."""
    angle = np.deg2rad(pose.rotation_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / pose.zoom
    centre = (np.array(x.gray.shape) - 1) / 2
    start = centre - turn @ (centre + np.array([pose.down_px, pose.right_px]))
    source = np.where(x.shown, x.gray, _NOTHING)[:, :: -1 if pose.mirrored else 1]
    values = ndimage.affine_transform(source, turn, start, order=1, mode="constant", cval=_NOTHING)
    return np.where(values >= 0, values, 0.0), values >= 0


def _laid(x: _Picture, y: _Picture, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """The first picture in its pose, and where both show something."""
    laid, shown = _moved(x, pose)
    return laid, shown & y.shown


def judge(ssim_candidates: Scores, ssim_innocents: Scores, *, flagged: Flags) -> Evidence:
    """Which flags a second look confirms.

    Args:
        ssim_candidates: aligned SSIM of each candidate and its nearest train clip, (N,).
        ssim_innocents: the same of holdout clips and theirs, (M,).
        flagged: candidates that the re-identification model flags, (N,).

    Returns:
        ``threshold`` is the lowest similarity of innocents that at most one in twenty of them exceeds; a flag is
        confirmed above it, and doubted at or below it.

    Raises:
        TooFewSamples: with fewer than 20 innocents.
        Mismatch: if not every candidate is flagged or not.
    """
    if len(flagged) != len(ssim_candidates):
        raise Mismatch(f"expected a flag of each of {len(ssim_candidates)} candidates, got {len(flagged)} (flagged=)")
    may_exceed = int(len(ssim_innocents) * INNOCENT_SHARE + 1e-9)
    if may_exceed < 1:
        raise TooFewSamples(
            f"evidence needs the nearest pairs of at least 20 holdout clips, got {len(ssim_innocents)}; "
            f"add holdout clips (--real), or look at more pairs (--evidence-pairs)"
        )
    threshold = float(np.sort(ssim_innocents)[::-1][may_exceed])
    above = ssim_candidates > threshold
    return Evidence(
        candidates=len(ssim_candidates),
        threshold=threshold,
        confirmed=int((flagged & above).sum()),
        doubted=int((flagged & ~above).sum()),
    )


def _require_alike(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise Mismatch(f"expected two frames of one size, got {a.shape} and {b.shape}; decode both to one size")
    for frame in (a, b):
        if min(frame.shape) < LEAST_SIDE_PX or frame.min() == frame.max():
            raise DegenerateValues(
                f"expected frames of at least {LEAST_SIDE_PX} pixels a side and two gray levels, found {frame.shape} "
                f"from {frame.min()} to {frame.max()}; leave them out"
            )


def _windows(inside: np.ndarray) -> np.ndarray:
    """Centres of the windows that lie wholly inside."""
    whole: np.ndarray = ndimage.binary_erosion(inside, np.ones((_WINDOW_PX, _WINDOW_PX)))
    return whole


def _windowed(values: np.ndarray) -> np.ndarray:
    """Mean under the Gaussian window around each pixel."""
    filtered: np.ndarray = ndimage.gaussian_filter(values, _SIGMA_PX, radius=_WINDOW_PX // 2, mode="constant")
    return filtered


def _levelled(laid: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """With the target's mean and deviation inside; a fit by least squares would flatten what does not match."""
    x, y = laid[inside], target[inside]
    return np.where(inside, (laid - x.mean()) * (y.std() / x.std()) + y.mean(), 0.0)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; 0 where either is flat."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _overlap_correlation(x: _Picture, y: _Picture, pose: Pose) -> float:
    """−1 where too little of the pictures overlaps to compare them."""
    laid, both = _laid(x, y, pose)
    return _correlation(laid[both], y.gray[both]) if both.sum() >= _OVERLAP * _smaller(x, y) else -1.0


def _smaller(x: _Picture, y: _Picture) -> int:
    return int(min(x.shown.sum(), y.shown.sum()))


def _reduced(frame: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of ``factor`` pixels; what is left over is cut evenly, so that the centre stays the centre."""
    height, width = (side // factor for side in frame.shape)
    top, left = (side % factor // 2 for side in frame.shape)
    cut = frame[top : top + height * factor, left : left + width * factor]
    return cut.reshape(height, factor, width, factor).mean(axis=(1, 3))


def _coarse_poses(x: _Picture, y: _Picture) -> list[Pose]:
    """The grid's best poses, each with its best shift."""
    grid = [Pose(m, float(r), float(z), 0.0, 0.0) for m, r, z in product((False, True), _ROTATIONS_DEG, _ZOOMS)]
    laid, shown = (np.stack(parts) for parts in zip(*(_moved(x, pose) for pose in grid), strict=True))
    least = max(1.0, _COARSE_OVERLAP * _smaller(x, y))
    correlation = _masked_correlation(laid, shown, y.gray * y.shown, y.shown, least=least)  # (poses, down, right)
    best = correlation.reshape(len(grid), -1).argmax(axis=1)
    down, right = np.unravel_index(best, correlation.shape[1:])
    score = correlation[np.arange(len(grid)), down, right]
    return [
        replace(
            grid[i], down_px=_signed(down[i], correlation.shape[1]), right_px=_signed(right[i], correlation.shape[2])
        )
        for i in np.argsort(-score, kind="stable")[:_STARTS]
    ]


def _signed(shift: int, size: int) -> float:
    """Shifts beyond half the transform are negative ones."""
    return float(shift - size if shift > size // 2 else shift)


def _masked_correlation(
    laid: np.ndarray, laid_shown: np.ndarray, gray: np.ndarray, gray_shown: np.ndarray, *, least: float
) -> np.ndarray:
    """Pearson's correlation over the overlap at every shift of each laid picture; −1 below ``least`` common pixels.

    Gray levels are 0 where nothing is shown.
    """
    size = [fft.next_fast_len(2 * side, real=True) for side in gray.shape]

    def spectrum(values: np.ndarray) -> np.ndarray:
        return fft.rfft2(values.astype(np.float64), size)

    def summed(of_laid: np.ndarray, of_gray: np.ndarray) -> np.ndarray:
        return fft.irfft2(np.conj(of_laid) * of_gray, size)

    of_laid, of_laid_shown, of_gray, of_gray_shown = (spectrum(v) for v in (laid, laid_shown, gray, gray_shown))
    count = np.maximum(summed(of_laid_shown, of_gray_shown), 1.0)
    sum_laid, sum_gray = summed(of_laid, of_gray_shown), summed(of_laid_shown, of_gray)
    covariance = summed(of_laid, of_gray) - sum_laid * sum_gray / count
    spread_laid = summed(spectrum(laid**2), of_gray_shown) - sum_laid**2 / count
    spread_gray = summed(of_laid_shown, spectrum(gray**2)) - sum_gray**2 / count
    # A flat overlap leaves rounding noise, which must not pass for correlation.
    floor = 1e-6 * spread_laid.max() * spread_gray.max()
    spread = np.sqrt(np.maximum(spread_laid, 0.0) * np.maximum(spread_gray, 0.0) + floor)
    return np.where(count >= least - 0.5, covariance / spread, -1.0)


def _refined(x: _Picture, y: _Picture, start: Pose) -> Pose:
    """Nelder and Mead from a coarse pose; steps of half the grid's spacing."""

    def pose(values: np.ndarray) -> Pose:
        rotation, log_zoom, right, down = (float(value) for value in values)
        return Pose(start.mirrored, rotation, float(np.exp(log_zoom)), right, down)

    origin = np.array([start.rotation_deg, np.log(start.zoom), start.right_px, start.down_px])
    simplex = origin + np.vstack([np.zeros(4), np.diag([2.0, 0.05, 2.0, 2.0])])
    found = optimize.minimize(
        lambda values: -_overlap_correlation(x, y, pose(values)),
        origin,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": _EVALUATIONS, "xatol": 0.05, "fatol": 1e-4},
    )
    return pose(found.x)
