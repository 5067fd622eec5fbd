#!/usr/bin/env python3
"""Proves the dashboards and alert rules against a real Prometheus that scrapes a real server.

    python3 dashboards/prove.py target/release/understudy [path of oteltap]

Needs `prometheus` and `promtool` (apt-get install prometheus). Starts both on free ports, sends events and
predictions for half a minute, then asks every query of every dashboard and alert. Exit 1 if one returns nothing.
With `oteltap` (pip install oteltap), a collector that is not ours, every metric and the spans of a trace must reach it.
"""

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = "returns"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def call(url, body=None, kind="application/json"):
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def until(what, look, patience=60):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if (found := look()) is not None:
                return found
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"waited {patience} s for {what}")


def at(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_735_689_600 + seconds))


def history(first, last, unit=1.0):
    """Orders of 20 customers on these days; dear ones mostly come back a day later. Amounts are `unit` times too much."""
    events = []
    for n in range(first * 24, last * 24):
        when, amount = n * 3600, n * 37 % 200
        who = {"customer": f"c{n * 7 % 20}"}
        events.append((when, {"id": f"o{n}", "type": "order_placed", "time": at(when), "entities": who,
                              "properties": {"amount": amount * unit, "items": 1 + n % 3}}))
        events.append((when + 86400, {"id": f"r{n}", "type": "order_returned", "time": at(when + 86400), "entities": who,
                                      "properties": {"order": f"o{n}", "returned": (amount > 100) != (n % 11 == 0)}}))
    events.sort(key=lambda e: e[0])
    return "".join(json.dumps(e) + "\n" for _, e in events).encode()


def queries():
    """Every query of the written files: where it stands, and the text as Prometheus takes it."""
    for path in sorted(glob.glob(f"{HERE}/*.json")):
        for panel in json.load(open(path))["panels"]:
            for target in panel["targets"]:
                yield f"{os.path.basename(path)}: {panel['title']}", target["expr"]


def reached(program, received):
    """Whether every metric of the inventory, and a trace from gateway to log, is in what the collector printed."""
    text = open(received).read()
    inventory = json.loads(subprocess.run([program, "telemetry", "metrics", "-o", "json"], check=True, capture_output=True).stdout)
    names = [m["name"] for m in inventory["metrics"]]
    spans = ["POST /v1/models/{model}/predict", "RoutePrediction", "GetFeatures", "Validate", "Predict", "LogPrediction"]
    missing = [name for name in names + spans if f'"{name}"' not in text]
    print(f"oteltap: {len(names) - len([m for m in missing if m in names])} of {len(names)} metrics, "
          f"{len(spans) - len([m for m in missing if m in spans])} of {len(spans)} spans, {len(text.splitlines())} lines")
    if missing:
        print("MISSING  " + ", ".join(missing))
    return 1 if missing else 0


def main():
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/understudy")
    collector = sys.argv[2] if len(sys.argv) > 2 else None
    subprocess.run(["promtool", "check", "rules", f"{HERE}/alerts.yaml"], check=True)
    subprocess.run(["promtool", "test", "rules", "alerts_test.yaml"], check=True, cwd=HERE)
    children = []
    with tempfile.TemporaryDirectory() as tmp:
        try:
            failed = prove(program, collector, tmp, children)
        finally:
            for child in children:
                child.send_signal(signal.SIGKILL)
                child.wait()
    sys.exit(1 if failed else 0)


def prove(program, collector, tmp, children):
    subprocess.run([program, "init", f"{tmp}/shop"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(f"{tmp}/shop/models/{MODEL}.toml", "a") as f:
        f.write("\n[drift]\nmin_rows = 10\n")
    port, prometheus = free_port(), free_port()
    environment, received = dict(os.environ), f"{tmp}/received.ndjson"
    if collector:
        otlp = free_port()
        children.append(subprocess.Popen([collector, "--port", str(otlp)], stdout=open(received, "w"), stderr=subprocess.DEVNULL))
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}", "OTEL_TRACES_SAMPLER": "always_on",
                        "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    children.append(subprocess.Popen(
        [program, "serve", "--project", f"{tmp}/shop", "--set", f"server.port={port}", "--set", "clock.source=stream"],
        stderr=subprocess.DEVNULL, env=environment))
    url = f"http://127.0.0.1:{port}"
    until("the server", lambda: call(f"{url}/readyz")[0] == 200 or None)
    replay = lambda lines: call(f"{url}/v1/replay", lines, "application/x-ndjson")
    # A version, traffic, a second version, and at last amounts in another unit: drift, and an incident of a feed.
    for days in (history(0, 30), history(30, 56), history(56, 61, 100.0)):
        replay(days)
        if json.loads(call(f"{url}/v1/models/{MODEL}")[1])["versions"][1:]:
            continue
        job = json.loads(call(f"{url}/v1/models/{MODEL}/train", {})[1])["job"]
        until("the training", lambda: json.loads(call(f"{url}/v1/jobs/{job}")[1])["state"] == "registered" or None)
    quick = {"stages": [50, 100], "shadow_answers": 0, "min_dwell": "1m", "outcomes": []}
    rollout = f"{url}/v1/models/{MODEL}/rollout"
    start = lambda version: call(rollout, {"version": version, "settings": quick})
    print(f"rollout: {start('v1')[0]}")

    config = (f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{HERE}/alerts.yaml']\nscrape_configs:\n"
              f"  - {{job_name: understudy, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n")
    with open(f"{tmp}/prometheus.yaml", "w") as f:
        f.write(config)
    children.append(subprocess.Popen(
        ["prometheus", f"--config.file={tmp}/prometheus.yaml", f"--storage.tsdb.path={tmp}/tsdb",
         f"--web.listen-address=127.0.0.1:{prometheus}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    ask = f"http://127.0.0.1:{prometheus}"
    until("Prometheus", lambda: call(f"{ask}/-/ready")[0] == 200 or None)

    end, n = time.monotonic() + 30, 0
    while time.monotonic() < end:
        when = at(62 * 86400 + n)
        if n == 200:
            step = json.loads(call(rollout)[1])["step"]
            print(f"abort: {call(f'{rollout}/abort', {'expected_step': step})[0]}, again: {start('v1')[0]}")
        order = {"id": f"x{n}", "type": "order_placed", "time": when, "entities": {"customer": f"c{n % 20}"},
                 "properties": {"amount": 20.0, "items": 1}}
        replay(json.dumps(order).encode())
        # Some are odd (a finding), some wrong (a refusal).
        context = {"amount": 1e7 if n % 10 == 0 else float(n % 200)} if n % 7 else {"amonut": 1}
        call(f"{url}/v1/models/{MODEL}/predict",
             {"request_id": f"q{n}", "time": when, "entities": {"customer": f"c{n % 20}"}, "context": context})
        call(f"{url}/v1/outcomes", {"model": MODEL, "request_id": f"q{n}", "label": n % 3 == 0, "time": when})
        n += 1
        time.sleep(0.02)

    text = call(f"{url}/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    print(f"promtool check metrics: exit {checked.returncode} {checked.stderr.decode().strip()}")
    bad = checked.returncode
    total = 0
    for where, query in queries():
        query = query.replace("$__rate_interval", "20s").replace("$model", ".*")
        answer = json.loads(call(f"{ask}/api/v1/query?query={urllib.parse.quote(query)}")[1])
        total += 1
        if answer["status"] != "success" or not answer["data"]["result"]:
            print(f"NOTHING  {where}\n         {query}\n         {answer.get('error', '')}")
            bad = 1
    groups = json.loads(call(f"{ask}/api/v1/rules")[1])["data"]["groups"]
    rules = [r for g in groups for r in g["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            print(f"RULE     {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
            bad = 1
    if collector:
        bad |= reached(program, received)
    print(f"{n} requests; {total} queries of dashboards, {len(rules)} alert rules: {'all answer' if not bad else 'not all answer'}")
    return bad


if __name__ == "__main__":
    main()
