"""What the baselines share: reading the records of a stream, in the order of time, and writing weir's anomaly events."""
import csv, datetime, json, os


def stamp(text):
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Record:
    __slots__ = ("t", "done", "ip", "key", "user", "model", "agent", "prompt", "completion", "status", "ttft", "duration", "hash", "injection", "capped", "weight", "work", "failed")


def number(r, name):
    v = r.get(name)
    return None if v in (None, "") else float(v)


def record_of(r):
    x = Record()
    v = r["timestamp"]
    x.t = v if isinstance(v, float) else stamp(str(v))
    x.ip, x.key, x.user, x.model, x.agent = r.get("client_ip") or None, r.get("api_key") or None, r.get("user") or r.get("user_id") or None, r.get("model_name") or "", r.get("user_agent") or None
    x.prompt, x.completion = int(float(r.get("prompt_tokens") or r.get("request_tokens") or 0)), int(float(r.get("completion_tokens") or r.get("response_tokens") or 0))
    status = r.get("status")
    x.status = int(status) if status not in (None, "") else None
    x.ttft, x.duration = number(r, "ttft_ms"), number(r, "duration_ms")
    x.hash, x.injection = r.get("prompt_hash") or None, number(r, "injection_score")
    limit = r.get("max_tokens")
    x.capped = r.get("finish_reason") == "length" or (limit not in (None, "") and 0 < float(limit) <= x.completion)
    x.weight = int(r.get("weight") or 1)
    x.work = (r.get("kind") or ("control" if (r.get("path") or "").startswith(("/health", "/metrics", "/v1/models")) else "inference")) in ("inference", "embedding")
    x.failed = (x.status or 0) >= 500 or r.get("finish_reason") == "error"
    x.done = x.t + (x.duration or 0) / 1000
    return x


def read_records(folder):
    """All records of DIR/records.{jsonl,csv}, by arrival."""
    path = os.path.join(folder, "records.jsonl")
    if os.path.exists(path):
        with open(path, errors="replace") as f:
            records = [record_of(json.loads(l)) for l in f]
    else:
        with open(os.path.join(folder, "records.csv"), newline="") as f:
            records = [record_of(r) for r in csv.DictReader(f)]
    records.sort(key=lambda r: r.t)
    return records


def read_meta(folder):
    return json.load(open(os.path.join(folder, "stream.json")))


def feeds(records):
    """(time, record, finished) in the order of time: each record when it comes and when it is over, as weir itself sees it."""
    over = sorted(records, key=lambda r: r.done)
    i = n = 0
    while i < len(records):
        if over[n].done < records[i].t:
            yield over[n].done, over[n], True
            n += 1
        else:
            yield records[i].t, records[i], False
            i += 1
    end = records[-1].t if records else 0
    while n < len(over) and over[n].done <= end:
        yield over[n].done, over[n], True
        n += 1


class Alarms:
    """Incidents by (class, who): open while raised, closed when not raised for `hold` seconds."""

    def __init__(self, path, hold):
        self.f, self.hold, self.live, self.n = open(path, "w"), hold, {}, 0

    def raised(self, t, cls, kind, value, severity="warning", top=(), score=0.0):
        k = (cls, kind, value)
        if k in self.live:
            self.live[k][1] = t
            return
        self.n += 1
        self.live[k] = [f"{self.n}", t, severity]
        self.write("open", t, k, self.live[k], None, top, score)

    def tick(self, t):
        for k in [k for k, v in self.live.items() if t - v[1] >= self.hold]:
            self.write("close", t, k, self.live.pop(k), t, (), 0.0)

    def write(self, event, t, k, v, end, top, score):
        self.f.write(json.dumps({"v": 1, "event": event, "id": v[0], "class": k[0], "severity": v[2], "scope": {"kind": k[1], "value": k[2]}, "start": t, "detected": t, "end": end,
                                 "score": round(score, 2), "confidence": 0, "summary": "", "evidence": [], "top": [{"kind": a, "value": b, "share": round(s, 3)} for a, b, s in top]}) + "\n")

    def finish(self):
        self.f.close()
