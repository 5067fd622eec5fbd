#!/usr/bin/env python3
"""Makes network.onnx and network.expected.csv: a small network in the operators that torch.onnx.export writes for linear
layers, and the probabilities that onnxruntime gives for the archive's 1,000 rows.

    tar --zstd -xf tests/models/golden.tar.zst -C ROWS
    python3 -m venv v && v/bin/pip install scikit-learn onnx onnxruntime
    v/bin/python tests/models/network.py ROWS/filled.csv

The label is a rule of ours: only that both programs answer alike is asked.
"""
import os, sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

rows = np.genfromtxt(sys.argv[1], delimiter=",", skip_header=1).astype(np.float32)
mean, scale = rows.mean(0), rows.std(0) + 1e-3
z = (rows - mean) / scale
label = (z[:, :12].sum(1) + np.abs(z[:, 20]) * 2 > 1).astype(int)
model = MLPClassifier((16, 8), max_iter=60, random_state=1).fit(z, label)
weights, biases = [w.copy() for w in model.coefs_], [b.copy() for b in model.intercepts_]
biases[0] -= (mean / scale) @ weights[0]   # the scaling of the inputs, in the first layer
weights[0] /= scale[:, None]

nodes, values, at = [], [], "features"
for i, (w, b) in enumerate(zip(weights, biases)):
    values += [numpy_helper.from_array(w.astype(np.float32), f"w{i}"), numpy_helper.from_array(b.astype(np.float32), f"b{i}")]
    nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"z{i}"]))
    at = f"z{i}"
    if i + 1 < len(weights):
        nodes.append(helper.make_node("Relu", [at], [f"a{i}"]))
        at = f"a{i}"
shape = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", n])
graph = helper.make_graph(nodes, "network", [shape("features", rows.shape[1])], [shape(at, 1)], values)
network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(network)
here = os.path.dirname(os.path.abspath(__file__))
with open(f"{here}/network.onnx", "wb") as f:
    f.write(network.SerializeToString())
logits = onnxruntime.InferenceSession(f"{here}/network.onnx").run(None, {"features": rows})[0]
score = 1 / (1 + np.exp(-logits.astype(np.float64)))
np.savetxt(f"{here}/network.expected.csv", score, fmt="%.9g", header="expected", comments="")
