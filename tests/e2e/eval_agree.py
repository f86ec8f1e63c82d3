"""Random labels and events, judged twice: by weir eval and by the judge's scorer (score.py). All headline figures must agree.

usage: eval_agree.py WEIR SCORE.PY WORKDIR SETS [SEED]

The sets are small and dense, so that every rule meets every other: overlapping labels, drifts under attacks, names that are
right, wrong, missing or too many, incidents that change class and severity, that never close, that come again under the same id,
benign causes that accept something, streams with and without stream.json, warm-ups, rubbish between the lines.
"""
import datetime, importlib.util, json, math, os, random, subprocess, sys

CLASSES = "flood ddos flash_crowd cost_spike scraping prompt_probing credential_abuse key_sharing token_growth latency_regression error_burst traffic_drop".split()
BENIGN = "natural_shift natural_load nightly_batch onboarding deploy".split()
TOLD = CLASSES + ["unknown", "unbilled_compute"]
KINDS = {"client_ip": "ip%d", "api_key": "key%d", "model": "model%d", "user": "user%d", "network": "net%d"}


def somebody(R, few=6):
    kind = R.choice(list(KINDS))
    return kind, KINDS[kind] % R.randrange(few)


def label(R, i, span):
    cls = R.choice(CLASSES) if R.random() < 0.75 else R.choice(BENIGN)
    start = round(R.uniform(0, span), R.choice((0, 3)))
    end = start + R.choice((0, 30, 120, 600, 7200, span))
    actors, scope = {}, None
    for _ in range(R.choice((0, 1, 1, 2, 5))):
        k, v = somebody(R)
        actors.setdefault(k, []).append(v)
    if R.random() < 0.1:
        actors[R.choice(list(KINDS))] = []
    what = R.random()
    if what < 0.6:
        k, v = somebody(R)
        scope = {"kind": k, "value": v}
    elif what < 0.85:
        scope = {"kind": "global", "value": ""}
    accept = {"classes": R.sample(TOLD, R.randrange(1, 5)), "severity": R.choice(("info", "warning"))} if R.random() < 0.2 else None
    l = {"id": f"l{i}", "class": cls, "scope": scope, "actors": actors, "start": start, "end": end, "intensity": R.choice((1.5, 2, 3, 3.0, 5, 10)),
         "benign": cls == "flash_crowd" or cls in BENIGN, "accept": accept, "note": "n"}
    if R.random() < 0.1:
        del l["accept"]
    if R.random() < 0.1:
        del l["actors"]
    return l


def when(R, labels, span):
    if labels and R.random() < 0.8:
        l = R.choice(labels)
        return max(0.0, R.choice((l["start"], l["end"])) + R.choice((-30, -30.001, 0, 5, 119.5, 120, 120.001, 3600, R.uniform(-100, 900))))
    return R.uniform(0, span)


def stamp(R, t):
    if R.random() < 0.05:
        return datetime.datetime.fromtimestamp(t, datetime.timezone.utc).isoformat().replace("+00:00", R.choice(("Z", "+00:00")))
    return round(t, 3)


def incident(R, i, labels, span):
    t = when(R, labels, span)
    near = [l for l in labels if l["start"] - 200 < t < l["end"] + 4000]
    at = R.choice(near) if near and R.random() < 0.8 else None
    cls = at["class"] if at and R.random() < 0.5 else R.choice(TOLD)
    if cls in BENIGN:
        cls = R.choice(TOLD)
    lines, severity = [], R.choice(("info", "warning", "critical"))
    for k in range(R.choice((1, 1, 2, 3, 6))):
        e = {"v": 1, "event": "open" if k == 0 else "update", "id": f"e{i}", "class": cls, "severity": severity, "start": stamp(R, t - 5), "detected": stamp(R, t), "top": []}
        if at and at.get("scope") and R.random() < 0.6:
            e["scope"] = dict(at["scope"])
        elif R.random() < 0.7:
            a, b = somebody(R)
            e["scope"] = {"kind": a, "value": b}
        else:
            e["scope"] = {"kind": "global", "value": ""}
        for _ in range(R.choice((0, 0, 1, 3, 7))):
            a, b = somebody(R)
            e["top"].append({"kind": a, "value": b, "share": round(R.random(), 2)})
        for f in ("class", "severity", "scope", "top", "detected", "event"):
            if R.random() < 0.02:
                del e[f]
        lines.append(e)
        t += R.choice((1, 10, 60, 600))
        if R.random() < 0.3:
            cls = R.choice(TOLD)
        if R.random() < 0.3:
            severity = R.choice(("info", "warning", "critical"))
    if R.random() < 0.6:
        lines.append(dict(lines[-1], event="close", detected=stamp(R, t), end=stamp(R, t - R.choice((0, 3)))))
        if R.random() < 0.3:
            lines.append(dict(lines[0], detected=stamp(R, t + 50)))
    return lines


def make(R, folder):
    span = R.choice((3000, 20000, 90000, 700000))
    labels = [label(R, i, span) for i in range(R.choice((0, 1, 3, 8, 20)))]
    events = [e for i in range(R.choice((0, 1, 5, 20, 60))) for e in incident(R, i, labels, span)]
    if R.random() < 0.7:
        order = {id(e): k for k, e in enumerate(events)}
        events.sort(key=lambda e: (e.get("detected", 0) if isinstance(e.get("detected", 0), float) else 0, order[id(e)]))
    lines = [json.dumps(e) for e in events]
    if lines and R.random() < 0.3:
        for junk in ("rubbish", "[1]", "3", '{"event":"open"}', '{"event":"close","id":"x","detected":5}', "", "   "):
            lines.insert(R.randrange(len(lines) + 1), junk)
    os.makedirs(folder, exist_ok=True)
    json.dump(labels, open(f"{folder}/labels.json", "w"))
    with open(f"{folder}/events.jsonl", "w") as f:
        f.write("\n".join(lines) + ("\n" if lines and R.random() < 0.9 else ""))
    meta = f"{folder}/stream.json"
    if os.path.exists(meta):
        os.unlink(meta)
    if R.random() < 0.8:
        m = {"start": 0, "end": span, "warmup": R.choice((0, 0, span / 10, span / 2))}
        if R.random() < 0.2:
            del m[R.choice(list(m))]
        json.dump(m, open(meta, "w"))


def pairs(theirs, ours):
    """(name, theirs, ours, digits that theirs is rounded to)"""
    for a, b, n in (("macro_f1_final", "macro_f1", 3), ("macro_f1_open", "macro_f1_opened", 3), ("macro_f1_final_3x", "macro_f1_3x", 3), ("recall_any", "recall_any", 4), ("f1_any", "f1_any", 4),
                    ("recall_any_not_collateral", "recall_any_not_collateral", 4), ("scope_named", "scope_named", 3), ("scope_exact", "scope_exact", 3), ("days", "days", 3), ("labels", "labels", 9),
                    ("bad_lines", "bad_lines", 9), ("opens_per_event", "opens_per_event", 2), ("flaps", "right_opens_per_event", 2), ("info_per_day", "info_per_day", 2),
                    ("false_warnings_per_day", "false_warnings_per_day", 3), ("false_criticals_per_week", "false_criticals_per_week", 3), ("natural_opens_per_day", "natural_opens_per_day", 3),
                    ("accepted_opens", "accepted_opens", 9), ("false_alarm_time_share", "false_alarm_time_share", 5), ("flash_crowd_precision", "flash_crowd_precision", 3),
                    ("flash_crowds_called_attack", "flash_crowds_called_attack", 9), ("attacks_seen_only_as_info", "attacks_seen_only_as_info", 9)):
        yield a, theirs[a], ours[b], n
    for s in ("info", "warning", "critical"):
        yield "false " + s, theirs["false_opens"][s], ours["false_opens"][s], 9
        yield "false a day " + s, theirs["false_per_day"][s], ours["false_per_day"][s], 3
    for a, b in (("delay_any", "delay_any_s"), ("delay_right", "delay_right_s"), ("delay_right_no_drift", "delay_right_no_drift_s"), ("delay_volumetric_3x", "delay_volumetric_3x_s")):
        for q in ("p50", "p95", "max"):
            yield f"{a} {q}", theirs[a][q], ours[b][q], 2
    for c, t in theirs["per_class_final"].items():
        for k in ("labels", "tp", "fp", "fn"):
            yield f"{c} {k}", t[k], ours["classes"][c][k], 9
        for k in ("precision", "recall", "f1"):
            yield f"{c} {k}", t[k], ours["classes"][c][k], 3
    for c, t in theirs["per_class_open"].items():
        yield f"{c} f1 opened", t["f1"], ours["classes"][c]["f1_opened"], 3
    for c, d in theirs["delay_by_class"].items():
        for q in ("p50", "p95", "max"):
            yield f"{c} delay {q}", d[q], ours["classes"][c]["delay_s"][q], 2
    rows = lambda o: {(r, c): n for r, v in o.items() for c, n in v.items() if n}
    a, b = rows(theirs["confusion"]), rows(ours["confusion"])
    for k in a.keys() | b.keys():
        yield f"confusion {k}", a.get(k, 0), b.get(k, 0), 9
    a, b = theirs["false_by_benign"], ours["false_by_cause"]
    for k in a.keys() | b.keys():
        yield f"false at {k}", a.get(k, 0), b.get(k, 0), 9


def differ(a, b, digits):
    """Half a unit of the place to which theirs was rounded, and ours in its fourth."""
    if a is None or b is None:
        return (a is None) != (b is None)
    return abs(a - b) > 0.5 * 10.0 ** -digits + (6e-5 if digits < 9 else 1e-9)


def main():
    weir, path, work, sets = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    spec = importlib.util.spec_from_file_location("score", path)
    score = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(score)
    compared, worst, wrong = 0, 0.0, []
    for n in range(sets):
        R = random.Random(seed * 1000003 + n)
        folders = [f"{work}/s{k}" for k in range(R.choice((1, 1, 2, 4, 12)))]
        for f in folders:
            make(R, f)
        L, E = [f + "/labels.json" for f in folders], [f + "/events.jsonl" for f in folders]
        warmup = R.choice((None, None, 0, 1000))
        streams = []
        for l, e in zip(L, E):
            labels, meta = score.read_labels(l)
            with open(e, errors="replace") as f:
                streams.append((labels, meta, *score.read_events(f)))
        theirs = score.score(streams, warmup)
        cmd = [weir, "eval", "--labels", *L, "--events", *E, "--json", "--resamples", str(R.choice((0, 20)))] + (["--warmup", str(warmup)] if warmup is not None else [])
        p = subprocess.run(cmd, capture_output=True, text=True)
        if p.returncode:
            hopeless = any(b and not i for _, _, i, b in streams) # nothing but rubbish in a file: an error here, a count there
            if not (hopeless and p.returncode == 2):
                wrong.append(f"set {n}: exit {p.returncode}: {p.stderr[-300:]}")
            continue
        ours = json.loads(p.stdout)
        for name, a, b, digits in pairs(theirs, ours):
            compared += 1
            if differ(a, b, digits):
                wrong.append(f"set {n}: {name}: {a} there, {b} here")
            elif a is not None and digits < 9:
                worst = max(worst, abs(a - b))
    for w in wrong[:12]:
        print(w)
    print(f"{sets} sets, {compared} figures compared, {len(wrong)} differ, largest difference {worst:.5f}")
    sys.exit(1 if wrong or compared < 10 * sets else 0)


if __name__ == "__main__":
    main()
