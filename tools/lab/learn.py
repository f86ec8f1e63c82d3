#!/usr/bin/env python3
"""Learns from public traces what the traffic lab needs, and writes it as one C header.

  learn.py TRACES > traces.h

TRACES holds servegen/, azure/ and burstgpt/ as their publishers lay them out. What is kept are facts about
shape, not the traces: each tenant's half-hour rates relative to its own mean in steps of 15 %, how restless
it is between ten-minute bins, quantiles of its burstiness and of its token counts. Every second tenant is
marked for test seeds, so that nothing is tuned on it.
"""
import ast, csv, glob, json, math, os, statistics, sys

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def letter(ratio):
    """'0' is silence; else 63 steps of 2**0.2 around the mean, which is at step 42."""
    return "0" if ratio <= 0 else ALPHABET[min(63, max(1, round(math.log2(ratio) * 5) + 42))]


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def weighted(hist, qs):
    total, out, acc = sum(hist.values()), [], 0.0
    keys = iter(sorted(hist))
    k = next(keys)
    acc = hist[k]
    for q in qs:
        while acc < q * total:
            try:
                k = next(keys)
            except StopIteration:
                break
            acc += hist[k]
        out.append(max(0, int(k)))
    return out


def tenant(path):
    rates, cvs = [], []
    with open(path) as f:
        for row in csv.reader(f):
            rates.append(float(row[1] or 0))
            if rates[-1] > 0.05 and row[2]:
                cvs.append(float(row[2]))
    if len(rates) < 2016 or len(cvs) < 300:
        return None
    rates = rates[:2016]
    mean = sum(rates) / len(rates)
    halves = [sum(rates[i:i + 3]) / 3 for i in range(0, 2016, 3)]
    rest = [abs(math.log(b / a)) for a, b in zip(rates, rates[1:]) if a > 0.02 * mean and b > 0.02 * mean]
    if len(rest) < 200:
        return None
    return dict(mean=mean, curve="".join(letter(h / mean) for h in halves), restless=statistics.median(rest), jumps=quantile(rest, 0.99), cv=[quantile(cvs, q) for q in (0.1, 0.5, 0.9)])


def tokens(path):
    prompt, answer = {}, {}
    for window in json.load(open(path)).values():
        for text, into in ((window["input_tokens"], prompt), (window["output_tokens"], answer)):
            for k, v in ast.literal_eval(text).items():
                into[k] = into.get(k, 0) + v
    return (weighted(prompt, QUANTILES), weighted(answer, QUANTILES)) if prompt and answer else None


def main():
    root = sys.argv[1]
    rows, laws = [], []
    for group in ("m-small", "m-mid"):
        found = [(p, tenant(p)) for p in sorted(glob.glob(f"{root}/servegen/{group}/chunk-*-trace.csv"))]
        found = sorted(((p, t) for p, t in found if t), key=lambda x: -x[1]["mean"])[:28]
        rows += [t for _, t in found]
    for p in sorted(glob.glob(f"{root}/servegen/m-small/chunk-*-dataset.json")):
        t = tokens(p)
        if t:
            laws.append(t)
    with open(f"{root}/azure/azure_llm_2023_code.csv") as f:
        code = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(f)]
    laws.append(tuple([quantile([x[i] for x in code], q) for q in QUANTILES] for i in (0, 1)))
    with open(f"{root}/burstgpt/hourly_requests.csv") as f:
        hours = {int(r["t_s"]) // 3600: int(r["requests"]) for r in csv.DictReader(f)}
    span = max(hours) + 1
    mean = sum(hours.values()) / span
    burst = "".join(letter(hours.get(h, 0) / mean) for h in range(span))

    out = ["/* Made by tools/lab/learn.py from public traces (ServeGen, Apache-2.0; Azure LLM inference 2023 and BurstGPT, CC-BY 4.0). Not to be edited. */",
           "#ifndef LAB_TRACES_H", "#define LAB_TRACES_H", "",
           f"static const char lab_alphabet[] = \"{ALPHABET}\";", "#define LAB_CURVE_STEP_S 1800", "#define LAB_CURVE_STEPS 672", f"#define LAB_QUANTILES {len(QUANTILES)}", "",
           "/* A tenant: share of its trace, restlessness per 10 min (median and p99 of |dlog rate|), burstiness (CV of gaps: p10, p50, p90), two weeks of half hours. */",
           "struct lab_curve {", "\tdouble share, restless, jumps, cv[3];", "\tchar rate[LAB_CURVE_STEPS + 1];", "};", "",
           "static const struct lab_curve lab_curves[] = {"]
    for t in rows:
        out.append("\t{ %.4g, %.3g, %.3g, { %.3g, %.3g, %.3g }," % (t["mean"] / sum(x["mean"] for x in rows), t["restless"], t["jumps"], *t["cv"]))
        out += ["\t  \"%s\"" % t["curve"][i:i + 112] for i in range(0, 672, 112)]
        out[-1] += " },"
    out += ["};", "", "/* Hours of one busy service, 61 days. */", f"#define LAB_BURST_HOURS {span}", "static const char lab_burst[] ="]
    out += ["\t\"%s\"" % burst[i:i + 112] for i in range(0, span, 112)]
    out[-1] += ";"
    out += ["", "/* Token counts of prompts and answers at these quantiles. */", "static const double lab_quantile[LAB_QUANTILES] = { " + ", ".join(f"{q}" for q in QUANTILES) + " };",
            "struct lab_law {", "\tint prompt[LAB_QUANTILES], answer[LAB_QUANTILES];", "};", "static const struct lab_law lab_laws[] = {"]
    for p, a in laws:
        out.append("\t{ { %s }, { %s } }," % (", ".join(map(str, p)), ", ".join(map(str, a))))
    out += ["};", "", "#endif"]
    print("\n".join(out))


if __name__ == "__main__":
    main()
