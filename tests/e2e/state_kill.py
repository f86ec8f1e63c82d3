#!/usr/bin/env python3
"""Kills state_writer again and again, at random moments, and looks at what is left.

state_kill.py WRITER DIR KILLS SEED: prints what is wrong and ends with 1, or a line of figures and 0. Time runs 40 times as fast
for the writer; "ten seconds" are its own.
"""
import os, random, signal, sqlite3, struct, subprocess, sys, time

writer, folder, kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TIMES, ENTITIES, LOSS_S = 40, 2000, 10
R = random.Random(seed)
opened, closed = set(), set()
story = {}
worst = 0.0


def wrong(what):
    print(f"kill {n} of {kills} (seed {seed}): {what}")
    sys.exit(1)


def look():
    """What the file holds, read as anybody would."""
    db = sqlite3.connect(f"file:{folder}/weir.db?mode=ro", uri=True, timeout=10)
    check = db.execute("PRAGMA integrity_check").fetchall()
    if check != [("ok",)]:
        wrong(f"integrity_check: {check[:3]}")
    learnt = 0
    for name, blob in db.execute("SELECT name, blob FROM state WHERE kind = 'client_ip'"):
        magic, _, count, _ = struct.unpack_from("IIQd", blob)
        if magic != 0x77A1 or blob[24:] != bytes([count & 255]) * (len(blob) - 24):
            wrong(f"{name} is half of one save and half of another")
        learnt += count
    rows = dict(db.execute("SELECT id, closed IS NULL FROM incidents"))
    items = {i for i, in db.execute("SELECT name FROM state WHERE kind = 'incident'")}
    db.close()
    return learnt, rows, items


n = 0
before = 0
for n in range(1, kills + 1):
    p = subprocess.Popen([writer, folder, str(TIMES), str(ENTITIES)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.set_blocking(p.stdout.fileno(), False)
    end = time.monotonic() + R.choice([R.uniform(0, 0.05), R.uniform(0, 0.6), R.uniform(0.4, 1.5)])
    out = b""
    while time.monotonic() < end:
        out += p.stdout.read() or b""
        time.sleep(0.002)
    p.send_signal(signal.SIGKILL)
    p.wait()
    os.set_blocking(p.stdout.fileno(), True)
    out += p.stdout.read()
    said = p.stderr.read().decode()
    if "warning" in said or "error" in said:
        wrong(said)
    ticks, ready, resumed, lost = [], None, set(), set()
    closed_before = set(closed)
    for line in out.decode().split("\n")[:-1]:
        what, *rest = line.split()
        if what in ("open", "close", "resumed", "lost"):
            story.setdefault(rest[0], []).append(f"{what} in life {n}")
        if what == "t":
            ticks.append((float(rest[0]), int(rest[1])))
        elif what == "ready":
            ready = int(rest[0])
        elif what == "resumed":
            resumed.add(rest[0])
        elif what == "lost":
            lost.add(rest[0])
        elif what == "open":
            opened.add(rest[0])
        elif what == "close":
            closed.add(rest[0])
    again = (resumed | lost) & closed_before
    if again:
        wrong(f"closed, and open again: {[(i, story[i]) for i in again]}")
    if ready is not None:
        if ready < before:
            wrong(f"{before} were stored, {ready} came back")
        missing = opened - closed - resumed - lost - {i for i in opened if i.startswith(f"{p.pid}-")}
        if missing:
            wrong(f"open when it was killed, neither resumed nor closed: {missing}")
    closed |= lost
    if not os.path.exists(f"{folder}/weir.db"):
        continue # killed before there was anything
    try:
        before, rows, items = look()
    except sqlite3.DatabaseError as e:
        if ready is None and not opened:
            continue # killed while the tables were made
        wrong(str(e))
    if ticks:
        last = ticks[-1][0]
        due = max((c for t, c in ticks if t <= last - LOSS_S), default=0)
        if before < due:
            wrong(f"{before} stored, {due} were learnt {LOSS_S} s before the end")
        kept = max((t for t, c in ticks if c <= before), default=ticks[0][0])
        worst = max(worst, last - kept)
    unknown = {i for i in opened | closed if i not in rows}
    if unknown:
        wrong(f"told of, and not stored: {unknown}")
    reopened = {i for i in closed if rows[i]}
    if reopened:
        wrong(f"closed for whoever was told, open in the file: {reopened}")
    if items & closed:
        wrong(f"closed, and still to be resumed: {items & closed}")

# And an orderly end.
p = subprocess.Popen([writer, folder, str(TIMES), str(ENTITIES)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
time.sleep(0.5)
p.terminate()
out, _ = p.communicate()
count = int(out.split()[-1])
left = look()[0]
if p.returncode or left != count:
    wrong(f"an orderly end, status {p.returncode}: {left} stored of {count}")
print(f"{kills} kills, {len(opened)} incidents, {len(closed)} closed, {count} learnt, at most {worst:.1f} s of it lost at once")
