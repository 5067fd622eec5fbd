#!/usr/bin/env python3
"""Our trees beside LightGBM's own C calls on one thread, in turns of one run: 100 trees of 31 leaves.

    python benches/against_lightgbm.py UNDERSTUDY [MATRIX.csv] [ROUNDS]

UNDERSTUDY is a release build. Without MATRIX.csv (tests/models/make.py says what it is) the rows are random. Needs
lightgbm, numpy, a C compiler. Prints the median of the turns, and of their ratios.
"""
import json, os, statistics, subprocess, sys, tempfile
import lightgbm as lgb, numpy as np

program, matrix = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
if matrix and matrix.endswith(".csv"):
    data = np.genfromtxt(matrix, delimiter=",", skip_header=1, usecols=range(1, 39), max_rows=120_000)[::3]
    y, X = (data[:, 0] > 0).astype(int), data[:, 2:]
else:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40_000, 36))
    X[rng.random(X.shape) < 0.05] = np.nan
    y = (np.nan_to_num(X[:, :6]).sum(1) + np.nan_to_num(X[:, 6] * X[:, 7]) + rng.normal(size=len(X)) > 0).astype(int)
booster = lgb.train(dict(objective="binary", num_leaves=31, verbose=-1, seed=1), lgb.Dataset(X, y), 100)
rows = np.ascontiguousarray(X[:: len(X) // 1000][:1000])
expected = booster.predict(rows)

here = os.path.dirname(os.path.abspath(__file__))
library = os.path.join(os.path.dirname(lgb.__file__), "lib")
library = library if os.path.exists(f"{library}/lib_lightgbm.so") else os.path.dirname(lgb.__file__)
with tempfile.TemporaryDirectory() as d:
    booster.save_model(f"{d}/model.txt")
    rows.tofile(f"{d}/rows.bin")
    cell = lambda v: "" if np.isnan(v) else repr(float(v))
    with open(f"{d}/rows.csv", "w") as f:
        f.write(",".join([f"f{i}" for i in range(X.shape[1])] + ["expected"]) + "\n")
        f.writelines(",".join(map(cell, [*r, e])) + "\n" for r, e in zip(rows, expected))
    link = [f"-L{library}", "-l:lib_lightgbm.so", f"-Wl,-rpath,{library}"]
    subprocess.run(["cc", "-O2", "-o", f"{d}/theirs", f"{here}/lightgbm.c", *link], check=True)
    one_thread = dict(os.environ, OMP_NUM_THREADS="1")
    call = lambda command: json.loads(subprocess.run(command, env=one_thread, check=True, capture_output=True, text=True).stdout)
    bench = lambda batch: call([program, "bench", "model", "--model", d, "--rows", f"{d}/rows.csv", "--batch", str(batch), "--seconds", "2", "-o", "json"])
    check = call([program, "model", "check", d, "--rows", f"{d}/rows.csv", "-o", "json"])
    turns = []
    for _ in range(rounds):
        theirs = call([f"{d}/theirs", f"{d}/model.txt", f"{d}/rows.bin", str(len(rows)), str(X.shape[1])])
        one, batch = bench(1), bench(1000)
        turns.append((one["p50_us"], theirs["p50_us"], one["p99_us"], theirs["p99_us"], batch["p50_us"], theirs["batch_cpu_us"], theirs["batch_p50_us"]))
m = [statistics.median(t[i] for t in turns) for i in range(7)]
ratio = lambda i: round(statistics.median(t[i] / t[i + 1] for t in turns), 3)
print(json.dumps({
    "trees": 100, "leaves": 31, "features": X.shape[1], "rounds": rounds, "largest_difference": check["largest_difference"],
    "one_row_us": {"ours": m[0], "lightgbm": m[1], "ratio": ratio(0), "ours_p99": m[2], "lightgbm_p99": m[3]},
    "batch_of_1000_us": {"ours": m[4], "lightgbm_cpu": m[5], "ratio": ratio(4), "lightgbm_wall": m[6]},
}, indent=2))
