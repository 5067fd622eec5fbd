#!/usr/bin/env python3
"""Checks a running server with NVIDIA's `tritonclient`, an independent client of the Open Inference Protocol.

    pip install 'tritonclient[http]' numpy
    python clients/check_triton.py http://127.0.0.1:8080 --model delay-mlp

It takes the feature vectors of logged predictions, sends them over /v2 (JSON and binary tensors) and compares the
scores with those /v1 gave. Exit status 0 when every check holds.
"""

import argparse
import json
import sys
import urllib.request

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

NUMPY = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}
# A batch may be multiplied in another order than one row: f32 rounding.
TOLERANCE = 1e-6

failures = 0


def check(what, holds, note=""):
    global failures
    failures += not holds
    print(f"{'ok  ' if holds else 'FAIL'} {what}{'  ' + note if note else ''}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def logged(url, model, count):
    """The version that answered last, with feature vectors and scores /v1/.../predict gave; complete vectors only."""
    version, found = None, []
    for record in get(f"{url}/v1/predictions?model={model}&limit={count * 5}"):
        prediction = get(f"{url}/v1/predictions/{record['id']}")
        features = prediction.get("features")
        if not features or version not in (None, record["version"]):
            continue
        values = {name: feature["value"] for name, feature in features.items()}
        if None not in values.values():
            version = record["version"]
            found.append((values, record["score"]))
        if len(found) == count:
            break
    return version, found


def column(values, datatype):
    if datatype == "BYTES":
        return np.array([str(v).encode() for v in values], dtype=np.object_)
    return np.array(values, dtype=NUMPY[datatype])


def inputs(metadata, rows, binary):
    tensors = []
    for i in metadata["inputs"]:
        data = column([values[i["name"]] for values, _ in rows], i["datatype"])
        tensor = triton.InferInput(i["name"], list(data.shape), i["datatype"])
        tensor.set_data_from_numpy(data, binary_data=binary)
        tensors.append(tensor)
    return tensors


def main():
    parser = argparse.ArgumentParser(description="check a server with tritonclient")
    parser.add_argument("url", help="such as http://127.0.0.1:8080")
    parser.add_argument("--model", default="delay-mlp")
    parser.add_argument("--rows", type=int, default=20)
    args = parser.parse_args()
    url = args.url.rstrip("/")
    client = triton.InferenceServerClient(url.split("://", 1)[1])

    check("is_server_live", client.is_server_live())
    check("is_server_ready", client.is_server_ready())
    server = client.get_server_metadata()
    check("get_server_metadata", "binary_tensor_data" in server["extensions"], f"{server['name']} {server['version']}")
    check("is_model_ready", client.is_model_ready(args.model))
    check("is_model_ready is false for an unknown model", not client.is_model_ready("no-such-model"))
    metadata = client.get_model_metadata(args.model)
    check("get_model_metadata", bool(metadata["inputs"]), f"{len(metadata['inputs'])} inputs")

    version, rows = logged(url, args.model, args.rows)
    check("logged predictions to compare with", bool(rows), f"{len(rows)} of {version}")
    if not rows:
        return
    check("is_model_ready with a version", client.is_model_ready(args.model, version), version)
    expected = np.array([score for _, score in rows])
    scores = {}
    for name, binary in (("JSON", False), ("binary", True)):
        outputs = [triton.InferRequestedOutput(o, binary_data=binary) for o in ("score", "label", "confidence")]
        tensors = inputs(metadata, rows, binary)
        answer = client.infer(args.model, tensors, version, outputs=outputs, request_id="check-1")
        scores[name] = answer.as_numpy("score")
        worst = float(np.abs(scores[name] - expected).max())
        check(f"infer, {name}: scores equal those of /v1", worst <= TOLERANCE, f"largest difference {worst:.2g}")
        check(f"infer, {name}: labels", len(answer.as_numpy("label")) == len(rows))
        check(f"infer, {name}: id is echoed", answer.get_response()["id"] == "check-1")
        check(f"infer, {name}: only the outputs asked for", answer.as_numpy("prediction_id") is None)
    check("JSON and binary scores are the same bits", np.array_equal(scores["JSON"], scores["binary"]))
    answer = client.infer(args.model, inputs(metadata, rows, True))
    check("infer without named outputs gives all", answer.as_numpy("prediction_id") is not None)

    for what, tensors in (("a missing input", inputs(metadata, rows, True)[1:]),):
        try:
            client.infer(args.model, tensors)
            check(f"{what} is refused", False)
        except InferenceServerException as e:
            check(f"{what} is refused", e.status() is not None, e.message())


if __name__ == "__main__":
    main()
    print("all checks hold" if failures == 0 else f"{failures} checks failed")
    sys.exit(failures != 0)
