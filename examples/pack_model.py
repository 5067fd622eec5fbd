#!/usr/bin/env python3
"""Makes a version's folder out of a model that was trained elsewhere, ready for `understudy model register`.

    python examples/pack_model.py MODEL_FILE ROWS.csv OUT --model NAME [--category COLUMN=A,B,C ...] [--class N]
                                  [--positive LABEL --negative LABEL] [--threshold 0.5]
                                  [--network probability|logit|softmax [--output N] [--missing X]]

MODEL_FILE is model.txt (LightGBM), model.json or model.ubj (XGBoost), or model.onnx. ROWS.csv has the training rows:
a column for each feature in the order of training, and `expected`, the library's own predictions for them.
A `--category` names the categories in the order of their numbers. `--network` is for an ONNX network (PyTorch and others): what
its output N is; categories become one column each, and a missing number is X. Standard library only.
"""
import argparse, csv, hashlib, json, math, os, shutil
from datetime import datetime, timezone

QUANTILES = [0.0, 1e-4, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0]
FORMATS = {".txt": "lightgbm", ".json": "xgboost_json", ".ubj": "xgboost_ubj", ".onnx": "onnx"}

p = argparse.ArgumentParser()
p.add_argument("file"), p.add_argument("rows"), p.add_argument("out"), p.add_argument("--model", required=True)
p.add_argument("--category", action="append", default=[]), p.add_argument("--class", dest="number", type=int)
p.add_argument("--positive", default="yes"), p.add_argument("--negative", default="no")
p.add_argument("--threshold", type=float, default=0.5)
p.add_argument("--network", choices=["probability", "logit", "softmax"]), p.add_argument("--output", type=int, default=0)
p.add_argument("--missing", type=float, default=0.0)
a = p.parse_args()

orders = {c.split("=")[0]: c.split("=")[1].split(",") for c in a.category}
with open(a.rows, newline="") as f:
    rows = list(csv.DictReader(f))
names = [n for n in rows[0] if n != "expected"]
scores = [float(r["expected"]) for r in rows]
missing = ("", "nan", "NaN", "null")
value = lambda n, x: None if x in missing else x if n in orders else float(x)
vectors = [[value(n, r[n]) for n in names] for r in rows]


def quantiles(values):
    values = sorted(values)
    place = lambda q: q * (len(values) - 1)
    mix = lambda lo, hi, share: values[lo] + (values[hi] - values[lo]) * share
    return [mix(math.floor(place(q)), math.ceil(place(q)), place(q) % 1) for q in QUANTILES] if values else []


def profile(i, name):
    known = [v[i] for v in vectors if v[i] is not None]
    if name in orders:
        kind = {"type": "category", "counts": {c: known.count(c) for c in sorted(set(known))}}
    else:
        mean = sum(known) / max(len(known), 1)
        std = math.sqrt(sum((x - mean) ** 2 for x in known) / max(len(known), 1))
        kind = {"type": "numeric", "mean": mean, "std": std, "quantiles": quantiles(known)}
    return {"name": name, "nulls": len(vectors) - len(known), "kind": kind}


extension = os.path.splitext(a.file)[1]
golden = range(0, len(rows), max(1, len(rows) // 16))
line = lambda i: json.dumps({"vector": vectors[i], "score": scores[i]}) + "\n"
columns = [profile(i, n) for i, n in enumerate(names)]
os.makedirs(a.out)
shutil.copy(a.file, f"{a.out}/model{extension}")
json.dump({"rows": len(rows), "features": columns, "scores": quantiles(scores)}, open(f"{a.out}/profile.json", "w"))
open(f"{a.out}/golden.jsonl", "w").write("".join(map(line, golden)))

if a.network:
    inputs = [{"type": "one_hot", "order": orders[n]} if n in orders else {"type": "number", "missing": a.missing} for n in names]
    architecture = {"inputs": inputs, "answer": a.network, "output": a.output}
else:
    inputs = [{"type": "category", "order": orders[n]} if n in orders else {"type": "number"} for n in names]
    architecture = {"format": FORMATS[extension], "inputs": inputs}
if a.number is not None:
    architecture["class"] = a.number
listed = []
for name in (f"model{extension}", "profile.json", "golden.jsonl"):
    content = open(f"{a.out}/{name}", "rb").read()
    listed.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
kinds = {n: "category" if n in orders else "float" for n in names}
manifest = {
    "manifest_version": 1, "model": a.model, "version": "v1", "runtime": "onnx" if a.network else "trees", "architecture": architecture,
    "feature_set": "", "calibration": {"kind": "none"}, "threshold": a.threshold, "files": listed,
    "signature": {"features": [{"name": n, "type": kinds[n], "nullable": True} for n in names],
                  "positive_label": a.positive, "negative_label": a.negative},
    "provenance": {"created": now, "algorithm": FORMATS[extension], "seed": 0, "rows": len(rows),
                   "positive_share": sum(scores) / len(scores), "from": now, "until": now, "held_out": {}},
}
json.dump(manifest, open(f"{a.out}/manifest.json", "w"), indent=2)
print(f"{a.out}: {len(names)} features, {len(golden)} golden requests; next: understudy model check {a.out} --rows {a.out}/golden.jsonl")
