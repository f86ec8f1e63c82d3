#!/usr/bin/env python3
"""The isolation forest of src/detect beside scikit-learn's, on the same data: area under the ROC curve, mean of several seeds.

usage: forest-compare.py [SEEDS]   (5)
       forest-compare.py bench     what each call costs on this machine, in CPU time (needs no scikit-learn)
Needs python3-sklearn, python3-numpy and a C compiler; says SKIP where they are missing. Exit status 1 where ours is worse by more than 0.02
on any shape. scikit-learn cannot take a missing value: it gets the median.
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = ["tools/forest/forest-drive.c", "src/detect/forest.c", "src/detect/forest_tree.c", "src/detect/forest_blob.c"]


def build(work):
    program = work + "/forest-drive"
    try:
        subprocess.run([os.environ.get("CC", "cc"), "-std=c17", "-O2", "-D_GNU_SOURCE", "-Isrc", *SOURCES, "-o", program], cwd=ROOT, check=True)
    except FileNotFoundError:
        print("SKIP no C compiler\n0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    return program


if sys.argv[1:] == ["bench"]:
    with tempfile.TemporaryDirectory(prefix="weir-forest.") as folder:
        drive = build(folder)
        sys.exit(max(subprocess.run([drive, "bench", dim]).returncode for dim in ("8", "16", "32")))

try:
    import numpy as np
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score
except ImportError as e:
    system = "/usr/bin/python3"  # where Debian's packages are, when python3 is another
    if os.path.realpath(sys.executable) != os.path.realpath(system) and os.path.exists(system):
        os.execv(system, [system, *sys.argv])
    print(f"SKIP {e}: apt install python3-sklearn")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

TRAIN, NORMAL, ODD = 4000, 2000, 200
MARGIN = 0.02


def blob(rng):
    return rng.normal(size=(TRAIN, 8)), rng.normal(size=(NORMAL, 8)), rng.uniform(-8, 8, (ODD, 8))


def two_blobs(rng):
    def normal(n):
        return rng.normal(size=(n, 4)) + np.where(rng.random((n, 1)) < 0.3, 12.0, 0.0)
    return normal(TRAIN), normal(NORMAL), rng.normal(size=(ODD, 4)) * 0.7 + [6, 6, 6, 6]


def one_of_sixteen(rng):
    odd = rng.normal(size=(ODD, 16))
    odd[np.arange(ODD), rng.integers(0, 16, ODD)] += 7
    return rng.normal(size=(TRAIN, 16)), rng.normal(size=(NORMAL, 16)), odd


def rates(rng):
    """Log rates with a common level, as windows of one model have: odd is a share that moves at an ordinary level."""
    def normal(n):
        level = rng.normal(3, 1, (n, 1))
        return np.hstack([level + rng.normal(0, 0.2, (n, 5)), rng.beta(2, 60, (n, 3)), rng.normal(0, 1, (n, 4))])
    odd = normal(ODD)
    odd[:, 5] += 0.3
    odd[:, 9] += 4
    return normal(TRAIN), normal(NORMAL), odd


def heavy_tails(rng):
    odd = rng.standard_t(3, (ODD, 6))
    odd[:, :2] += 12
    return rng.standard_t(3, (TRAIN, 6)), rng.standard_t(3, (NORMAL, 6)), odd


def crowd(rng):
    """Odd ones that look alike, far out: what a plateau of an attack is."""
    return rng.normal(size=(TRAIN, 6)), rng.normal(size=(NORMAL, 6)), rng.normal(size=(ODD, 6)) * 0.1 + 4


def poisoned(rng):
    train, test, odd = crowd(rng)
    train[rng.choice(TRAIN, TRAIN // 50, replace=False)] = rng.normal(size=(TRAIN // 50, 6)) * 0.1 + 4
    return train, test, odd


def constant(rng):
    """Four of eight features never moved before: no split knows them."""
    def normal(n):
        return np.hstack([rng.normal(size=(n, 4)), np.zeros((n, 4))])
    odd = normal(ODD)
    odd[:, 5:7] += rng.uniform(0.1, 1, (ODD, 2))
    return normal(TRAIN), normal(NORMAL), odd


def missing(rng):
    train, test, odd = (a.copy() for a in blob(rng))
    for a in (train, test, odd):
        gone = rng.random(a.shape) < 0.3
        gone[:, 0] = False  # who has nothing cannot be scored
        a[gone] = np.nan
    return train, test, odd


def ours(program, train, test, seed):
    data = np.vstack([train, test]).astype("<f4").tobytes()
    out = subprocess.run([program, "score", str(train.shape[1]), str(len(train)), str(len(test)), str(seed)], input=data, capture_output=True, check=True)
    return np.array(out.stdout.split(), dtype=float)


def theirs(train, test, seed):
    median = np.nanmedian(train, axis=0)
    train, test = (np.where(np.isnan(a), median, a) for a in (train, test))
    return -IsolationForest(n_estimators=100, max_samples=256, random_state=seed).fit(train).score_samples(test)


def main():
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    failed = 0
    shapes = [blob, two_blobs, one_of_sixteen, rates, heavy_tails, crowd, poisoned, constant, missing]
    with tempfile.TemporaryDirectory(prefix="weir-forest.") as work:
        program = build(work)
        print(f"{'shape':16} {'weir':>7} {'sklearn':>8}   lowest of {seeds}: weir, sklearn")
        for shape in shapes:
            mine, their = [], []
            for seed in range(1, seeds + 1):
                train, normal, odd = shape(np.random.default_rng(seed))
                test = np.vstack([normal, odd])
                truth = np.r_[np.zeros(len(normal)), np.ones(len(odd))]
                mine.append(roc_auc_score(truth, ours(program, train, test, seed)))
                their.append(roc_auc_score(truth, theirs(train, test, seed)))
            worse = np.mean(mine) < np.mean(their) - MARGIN
            failed += worse
            print(f"{shape.__name__:16} {np.mean(mine):7.4f} {np.mean(their):8.4f}   {min(mine):.4f} {min(their):.4f}{'   FAIL' if worse else ''}")
    print(f"{len(shapes) - failed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
