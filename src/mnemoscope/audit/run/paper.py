"""The paper's numbers as printed: Tables 1 to 4 of Dombrowski et al. 2024 (arXiv 2411.04956).

Its latent A4C row of Table 1 cannot be as printed: precision .968 and recall .995 make an F1 of .981, not .971.
"""

SETS = ("dynamic", "a4c", "psax")
TITLES = {"dynamic": "Dynamic", "a4c": "A4C", "psax": "PSAX"}
FIGURES = ("auc", "accuracy", "f1", "precision", "recall")

# Table 1: space → set → FIGURES.
IDENTIFICATION = {
    "image": {
        "dynamic": (1.000, 0.998, 0.998, 0.998, 0.998),
        "a4c": (1.000, 0.997, 0.997, 0.995, 1.000),
        "psax": (1.000, 0.998, 0.998, 0.996, 1.000),
    },
    "latent": {
        "dynamic": (0.998, 0.992, 0.992, 0.987, 0.997),
        "a4c": (0.991, 0.970, 0.971, 0.968, 0.995),
        "psax": (0.999, 0.994, 0.994, 0.993, 0.996),
    },
}

# Table 2: space → train set → (AUC, mean and standard deviation of the videos' correlation) on each test set.
GENERALISATION = {
    "image": {
        "dynamic": ((1.000, 0.76, 0.12), (0.968, 0.71, 0.15), (0.978, 0.71, 0.15)),
        "a4c": ((0.988, 0.72, 0.16), (1.000, 0.71, 0.14), (1.000, 0.70, 0.15)),
        "psax": ((0.934, 0.73, 0.12), (0.962, 0.59, 0.21), (1.000, 0.68, 0.13)),
    },
    "latent": {
        "dynamic": ((0.998, 0.89, 0.07), (0.995, 0.88, 0.06), (0.997, 0.89, 0.05)),
        "a4c": ((0.994, 0.81, 0.08), (0.991, 0.81, 0.08), (1.000, 0.81, 0.09)),
        "psax": ((0.996, 0.79, 0.10), (0.984, 0.77, 0.12), (0.999, 0.79, 0.10)),
    },
}

# Table 3, latent space: head → AUC by test set, and in each by train set; the paper prints their mean as "Total".
HEADS = {
    "pred": ((0.998, 0.994, 0.996), (0.995, 0.991, 0.984), (0.997, 1.000, 0.999)),
    "l1": ((0.996, 0.987, 0.990), (0.998, 0.986, 0.990), (0.999, 0.998, 0.998)),
    "l2": ((0.995, 0.978, 0.986), (0.998, 0.986, 0.989), (0.998, 0.996, 0.999)),
    "corr": ((0.996, 0.978, 0.970), (0.998, 0.984, 0.984), (0.999, 0.997, 0.993)),
}

# Table 4: set → train clips, learned ones, share of flagged synthetic clips (section 4.2: 7313, 302 and 2488 of
# 100,000), and train clips learned through flagged ones alone.
LEARNED = {
    "dynamic": (7465, 1401, 0.07313, 5),
    "a4c": (2580, 794, 0.00302, 3),
    "psax": (3559, 884, 0.02488, 2),
}
