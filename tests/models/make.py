#!/usr/bin/env python3
"""Makes golden.tar.zst: small models of every supported kind, and what the libraries' own `predict` says to 1,000 rows.

    python3 -m venv v && v/bin/pip install lightgbm xgboost scikit-learn onnxmltools skl2onnx onnxruntime pandas zstandard
    v/bin/python tests/models/make.py MATRIX.csv [--check UNDERSTUDY] [OUT]

MATRIX.csv has the flights features in the order of examples/flights/models, after `time`, `label` and `arrival`.
With --check the archive is not written: every model, as just trained, is given to `UNDERSTUDY model check`.

In the archive: `rows.csv` (the features; carrier and origin as category numbers), `filled.csv` (missing values are
-1, every number is a float32: for libraries that know no missing values or round), and per model its file and
`NAME.expected.csv`.
"""
import io, json, os, subprocess, sys, tarfile, tempfile, warnings
import numpy as np, pandas as pd
import lightgbm as lgb, xgboost as xgb, onnx, onnxmltools, onnxruntime, sklearn, skl2onnx, zstandard
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn import ensemble, tree
from skl2onnx import to_onnx

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)

# skl2onnx gives booleans where newer onnx packages take integers only.
plain = onnx.helper.make_attribute
def attribute(key, value, *a, **k):
    if isinstance(value, (list, np.ndarray)) and any(isinstance(v, (bool, np.bool_)) for v in value):
        value = [int(v) for v in value]
    return plain(key, value, *a, **k)
onnx.helper.make_attribute = attribute

args = sys.argv[1:]
program = None
if "--check" in args:
    at = args.index("--check")
    program = args[at + 1]
    del args[at : at + 2]
matrix, out = args[0], args[1] if len(args) > 1 else os.path.join(os.path.dirname(__file__), "golden.tar.zst")

all_rows = pd.read_csv(matrix)
all_rows = all_rows[all_rows.label >= 0].iloc[::16]
label = all_rows.label.to_numpy(int)
names = list(all_rows.columns[3:])
orders = {c: sorted(all_rows[c].dropna().unique()) for c in ("carrier", "origin")}
X = all_rows[names].copy()
for c, order in orders.items():
    X[c] = X[c].map({v: i for i, v in enumerate(order)}).astype(float)
X = X.to_numpy(float)
CATEGORIES = [names.index("carrier"), names.index("origin")]
# Another label: how many flights leave the origin in an hour; a count, and by size a class.
count = np.nan_to_num(X[:, 1]) + 0.1
classes = np.digitize(count, [5, 20]) + 1 * (label > 0)
pick = np.linspace(0, len(X) - 1, 1000).astype(int)
rows = X[pick]
filled_all = np.nan_to_num(X, nan=-1.0).astype(np.float32)
filled = filled_all[pick]
single_all, single = X.astype(np.float32), rows.astype(np.float32)

models = {}  # name -> (extension, bytes, expected, which rows)

def add(name, extension, content, expected, which="rows"):
    models[name] = (extension, content, np.asarray(expected, float).reshape(len(rows), -1), which)

# ---- LightGBM
def lightgbm(name, objective, y, rounds=12, leaves=15, categorical=True, **more):
    p = dict(objective=objective, num_leaves=leaves, verbose=-1, seed=1, num_threads=2, **more)
    m = lgb.train(p, lgb.Dataset(X, y, categorical_feature=CATEGORIES if categorical else []), rounds)
    add(name, "txt", m.model_to_string().encode(), m.predict(rows))
    return m

lightgbm("lightgbm-binary", "binary", label)
lightgbm("lightgbm-binary-100", "binary", label, 100, 31, categorical=False)
lightgbm("lightgbm-sigmoid", "binary", label, sigmoid=0.7, categorical=False)
lightgbm("lightgbm-zero-missing", "binary", label, zero_as_missing=True)
lightgbm("lightgbm-no-missing", "binary", label, use_missing=False)
lightgbm("lightgbm-many-categories", "binary", label, max_cat_to_onehot=1, min_data_per_group=1, cat_smooth=1.0)
lightgbm("lightgbm-one-leaf", "binary", label, 2, min_data_in_leaf=len(X))
lightgbm("lightgbm-multiclass", "multiclass", classes, 5, num_class=4)
lightgbm("lightgbm-ova", "multiclassova", classes, 5, num_class=4, sigmoid=1.3)
lightgbm("lightgbm-regression", "regression", count)
lightgbm("lightgbm-sqrt", "regression", count, reg_sqrt=True)
lightgbm("lightgbm-l1", "regression_l1", count)
lightgbm("lightgbm-huber", "huber", count)
lightgbm("lightgbm-quantile", "quantile", count, alpha=0.9)
lightgbm("lightgbm-poisson", "poisson", count)
lightgbm("lightgbm-gamma", "gamma", count)
lightgbm("lightgbm-tweedie", "tweedie", count)
lightgbm("lightgbm-cross-entropy", "cross_entropy", label * 0.9)
lightgbm("lightgbm-cross-entropy-lambda", "cross_entropy_lambda", label * 0.9)
lightgbm("lightgbm-dart", "binary", label, boosting="dart", drop_rate=0.5)
forest = dict(boosting="rf", bagging_freq=1, bagging_fraction=0.6)
lightgbm("lightgbm-rf", "binary", label, **forest)
lightgbm("lightgbm-rf-regression", "regression", count, **forest)
m = lgb.train(dict(objective="lambdarank", num_leaves=7, verbose=-1), lgb.Dataset(X, label, group=[100] * (len(X) // 100) + [len(X) % 100]), 8)
add("lightgbm-lambdarank", "txt", m.model_to_string().encode(), m.predict(rows))

# ---- XGBoost
def xgboost(name, objective, y, rounds=12, categorical=False, kinds=("json",), **more):
    types = ["c" if categorical and i in CATEGORIES else "q" for i in range(X.shape[1])]
    d = lambda x, y=None: xgb.DMatrix(x, y, feature_types=types, enable_categorical=categorical)
    m = xgb.train(dict(objective=objective, max_depth=4, seed=1, nthread=2, **more), d(X, y), rounds)
    for kind in kinds:
        add(f"{name}-{kind}" if len(kinds) > 1 else name, kind, bytes(m.save_raw(raw_format=kind)), m.predict(d(rows)))

xgboost("xgboost-binary", "binary:logistic", label, kinds=("json", "ubj"))
xgboost("xgboost-categories", "binary:logistic", label, categorical=True, kinds=("json", "ubj"), max_cat_to_onehot=2)
xgboost("xgboost-one-hot-categories", "binary:logistic", label, categorical=True, max_cat_to_onehot=99)
xgboost("xgboost-logitraw", "binary:logitraw", label)
xgboost("xgboost-hinge", "binary:hinge", label)
xgboost("xgboost-softprob", "multi:softprob", classes, 4, kinds=("json", "ubj"), num_class=4)
xgboost("xgboost-softmax", "multi:softmax", classes, 4, num_class=4)
xgboost("xgboost-squared", "reg:squarederror", count)
xgboost("xgboost-logistic", "reg:logistic", label * 0.9)
xgboost("xgboost-absolute", "reg:absoluteerror", count)
xgboost("xgboost-pseudohuber", "reg:pseudohubererror", count)
xgboost("xgboost-poisson", "count:poisson", count)
xgboost("xgboost-gamma", "reg:gamma", count)
xgboost("xgboost-tweedie", "reg:tweedie", count)
xgboost("xgboost-squared-log", "reg:squaredlogerror", count)
xgboost("xgboost-quantile", "reg:quantileerror", count, quantile_alpha=0.9)
xgboost("xgboost-cox", "survival:cox", np.where(label > 0, count, -count))
xgboost("xgboost-ranking", "rank:pairwise", label)
xgboost("xgboost-dart", "binary:logistic", label, booster="dart", rate_drop=0.5, one_drop=1, kinds=("json", "ubj"))
xgboost("xgboost-forest", "binary:logistic", label, 2, num_parallel_tree=6, subsample=0.6, colsample_bynode=0.6)
xgboost("xgboost-pruned", "binary:logistic", label, tree_method="exact", gamma=20)
xgboost("xgboost-lossguide", "binary:logistic", label, grow_policy="lossguide", max_leaves=20)

# ---- ONNX
def sk(name, m, y, fit, test, which, options=None):
    m.fit(fit, y)
    o = to_onnx(m, fit[:1], options=options, target_opset={"": 15, "ai.onnx.ml": 3})
    add(name, "onnx", o.SerializeToString(), m.predict_proba(test) if hasattr(m, "predict_proba") else m.predict(test), which)

small = dict(max_depth=5, random_state=1)
sk("onnx-forest", ensemble.RandomForestClassifier(10, **small), label, filled_all, filled, "filled")
sk("onnx-forest-plain", ensemble.RandomForestClassifier(10, **small), label, filled_all, filled, "filled", {"zipmap": False})
sk("onnx-forest-classes", ensemble.RandomForestClassifier(6, **small), classes, filled_all, filled, "filled")
sk("onnx-forest-regression", ensemble.RandomForestRegressor(10, **small), count, filled_all, filled, "filled")
sk("onnx-extra-trees", ensemble.ExtraTreesClassifier(10, **small), label, filled_all, filled, "filled")
sk("onnx-tree", tree.DecisionTreeClassifier(**small), label, filled_all, filled, "filled")
sk("onnx-boosting", ensemble.GradientBoostingClassifier(n_estimators=10), label, filled_all, filled, "filled")
sk("onnx-boosting-classes", ensemble.GradientBoostingClassifier(n_estimators=4), classes, filled_all, filled, "filled")
sk("onnx-boosting-regression", ensemble.GradientBoostingRegressor(n_estimators=10), count, filled_all, filled, "filled")
sk("onnx-histogram", ensemble.HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=15), label, single_all, single, "single")
sk("onnx-histogram-classes", ensemble.HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=15), classes, single_all, single, "single")
sk("onnx-histogram-regression", ensemble.HistGradientBoostingRegressor(max_iter=10, max_leaf_nodes=15), count, single_all, single, "single")

initial = [("input", FloatTensorType([None, X.shape[1]]))]
def onnx_lightgbm(name, objective, y, categorical=(), which="single", fit=single_all, test=single, **more):
    p = dict(objective=objective, num_leaves=15, verbose=-1, seed=1, **more)
    m = lgb.train(p, lgb.Dataset(fit.astype(float), y, categorical_feature=list(categorical)), 10)
    o = onnxmltools.convert_lightgbm(m, initial_types=initial)
    add(name, "onnx", o.SerializeToString(), m.predict(test.astype(float)), which)

onnx_lightgbm("onnx-lightgbm", "binary", label)
onnx_lightgbm("onnx-lightgbm-categories", "binary", label, CATEGORIES, "filled", filled_all, filled)
onnx_lightgbm("onnx-lightgbm-classes", "multiclass", classes, num_class=4)
onnx_lightgbm("onnx-lightgbm-regression", "regression", count)
onnx_lightgbm("onnx-lightgbm-poisson", "poisson", count)

def onnx_xgboost(name, m, y):
    m.fit(single_all, y)
    o = onnxmltools.convert_xgboost(m, initial_types=initial)
    add(name, "onnx", o.SerializeToString(), m.predict_proba(single) if hasattr(m, "predict_proba") else m.predict(single), "single")

onnx_xgboost("onnx-xgboost", xgb.XGBClassifier(n_estimators=10, max_depth=4), label)
onnx_xgboost("onnx-xgboost-classes", xgb.XGBClassifier(n_estimators=4, max_depth=4), classes)
onnx_xgboost("onnx-xgboost-regression", xgb.XGBRegressor(n_estimators=10, max_depth=4), count)

# ---- the archive
def csv(x, header=None):
    text = io.StringIO()
    header and text.write(",".join(header) + "\n")
    for row in x:
        text.write(",".join("" if np.isnan(v) else repr(float(np.float32(v))) if x.dtype == np.float32 else repr(float(v)) for v in row) + "\n")
    return text.getvalue()

def expected_csv(x):
    header = ["expected"] if x.shape[1] == 1 else [f"expected_{i}" for i in range(x.shape[1])]
    return ",".join(header) + "\n" + "".join(",".join(f"{v:.10g}" for v in row) + "\n" for row in x)

tables = {"rows": csv(rows, names), "filled": csv(filled, names), "single": csv(single, names)}
versions = {p.__name__: p.__version__ for p in (lgb, xgb, sklearn, onnxmltools, skl2onnx, onnx, np)}

if program:
    failed = 0
    for name, (extension, content, expected, which) in models.items():
        with tempfile.TemporaryDirectory() as d:
            open(f"{d}/model.{extension}", "wb").write(content)
            lines = zip(tables[which].splitlines(), expected_csv(expected).splitlines())
            open(f"{d}/rows.csv", "w").write("".join(f"{a},{b}\n" for a, b in lines))
            run = subprocess.run([program, "model", "check", d, "--rows", f"{d}/rows.csv", "--output", "json"], capture_output=True, text=True)
            failed += run.returncode != 0
            print(name, run.returncode, json.loads(run.stdout)["largest_difference"] if run.stdout else run.stderr.strip())
    print(f"{len(models)} models, {failed} failed, {json.dumps(versions)}")
    sys.exit(failed > 0)

raw = io.BytesIO()
with tarfile.open(fileobj=raw, mode="w") as tar:
    def put(name, content):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    put("versions.json", json.dumps(versions).encode())
    for name, text in tables.items():
        put(f"{name}.csv", text.encode())
    for name, (extension, content, expected, which) in models.items():
        put(f"{name}.{which}.{extension}", content)
        put(f"{name}.expected.csv", expected_csv(expected).encode())
packed = zstandard.ZstdCompressor(level=22).compress(raw.getvalue())
open(out, "wb").write(packed)
print(f"{len(models)} models, {len(raw.getvalue())} bytes, packed {len(packed)}: {out}")
