#!/usr/bin/env bash
# Known keys, prompts and answers go through a running agent; then they are looked for wherever it leaves something: records, events, log,
# store, journal, its socket's answers, the kernel's maps, its memory, and the core that it must not leave.
. "$(dirname "$0")/lib.sh"
suite_needs ss jq "$PYTHON"

# Needles: none of them may be found in any spelling, the words of a prompt least of all.
cat >"$WORK/needles" <<-'TXT'
	sk-needle-bearer-5d1f0c
	sk-needle-xapikey-77ab
	sk-needle-goog-90ff
	sk-needle-query-4c4c
	bmVlZGxlOmJhc2ljLTEyMzQ=
	sk-needle-litellm-1b2c
	sk-needle-cookie-5e5e
	needleprompt-alpha
	needleprompt-omega
	needleanswer
TXT
PLAN='{"model": "weir-tiny", "clients": [{"src": "127.0.0.11", "count": 3, "requests": [
  {"tokens": 5, "prompt": "needleprompt-alpha says needleanswer and needleprompt-omega", "echo": true, "headers": {"authorization": "Bearer sk-needle-bearer-5d1f0c", "cookie": "s=sk-needle-cookie-5e5e"}, "repeat": 4},
  {"stream": true, "usage": true, "tokens": 30, "prompt": "needleprompt-alpha", "echo": true, "headers": {"x-api-key": "sk-needle-xapikey-77ab"}, "repeat": 3},
  {"tokens": 5, "prompt": "needleprompt-omega", "gzip": true, "headers": {"x-goog-api-key": "sk-needle-goog-90ff"}},
  {"tokens": 5, "path": "/v1/chat/completions?key=sk-needle-query-4c4c", "prompt": "needleprompt-omega", "prompt_bytes": 20000},
  {"tokens": 5, "prompt": "needleprompt-alpha", "chunked": 40, "headers": {"authorization": "Basic bmVlZGxlOmJhc2ljLTEyMzQ="}},
  {"path": "/v1/needle", "expect": [404, 405], "prompt": "needleprompt-alpha", "headers": {"x-litellm-api-key": "sk-needle-litellm-1b2c"}},
  {"body": "{\"model\": \"needleprompt-alpha", "expect": 400, "headers": {"authorization": "Bearer sk-needle-bearer-5d1f0c"}}]}]}'

# found WHERE FILE...: complains of needles in files, as they are, in hex, in base64 of any alignment, or as JSON numbers.
cat >"$WORK/look.py" <<'PY'
import base64, binascii, re, sys
needles = [line.strip().encode() for line in open(sys.argv[1]) if line.strip()]
def spellings(n):
    yield n
    yield binascii.hexlify(n)
    yield n.decode().encode("utf-16-le")
    for shift in range(3):
        b = base64.b64encode(b"\0" * shift + n)
        yield b[(0, 2, 3)[shift]:len(b) // 4 * 4 - 4]
bad = 0
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    for n in needles:
        for s in spellings(n):
            if s in data:
                at = data.find(s)
                print(f"{path.rsplit('/', 1)[1]} holds {n.decode()} at {at}")
                bad += 1
                break
sys.exit(bad > 0)
PY
# Anonymous memory of a process, or with `all` whatever it has mapped but the kernel's ring, which holds packets until others overwrite them.
cat >"$WORK/memory.py" <<'PY'
import re, sys
pid, out = sys.argv[1:3]
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem, open(out, "wb") as f:
    for line in maps:
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
        lo, hi = int(m[1], 16), int(m[2], 16)
        if "r" not in m[3] or "bpf" in m[4] or m[4] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
            continue
        try:
            mem.seek(lo)
            f.write(mem.read(hi - lo))
        except (OSError, ValueError):
            pass
PY
# The maps of the kernel by bpftool, as bytes: numbers and hex strings in the order in which they stand.
cat >"$WORK/maps.py" <<'PY'
import glob, json, re, subprocess, sys
tool, pid, out = sys.argv[1:4]
maps = {int(m[1]) for p in glob.glob(f"/proc/{pid}/fdinfo/*") for m in [re.search(r"^map_id:\s*(\d+)", open(p).read(), re.M)] if m}
def flat(v):
    if isinstance(v, dict):
        for x in v.values(): yield from flat(x)
    elif isinstance(v, list):
        for x in v: yield from flat(x)
    elif isinstance(v, int):
        yield (v & 0xff).to_bytes(1, "little") if 0 <= v < 256 else (v & (1 << 64) - 1).to_bytes(8, "little")
    elif isinstance(v, str):
        yield bytes([int(v, 16)]) if v.startswith("0x") and len(v) <= 4 else v.encode()
n = 0
with open(out, "wb") as f:
    for m in sorted(maps):
        r = subprocess.run([tool, "-j", "map", "dump", "id", str(m)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if r.returncode:
            continue # a ring buffer cannot be dumped
        n += 1
        for e in json.loads(r.stdout or b"[]"):
            f.write(b"".join(flat([e.get("key"), e.get("value")] if isinstance(e, dict) else e)) + b"\n")
print(n)
PY

journal_take() { # somebody to write to, where no journald runs; sets JOURNAL
	JOURNAL=
	[ -S /run/systemd/journal/socket ] && return 1
	mkdir -p /run/systemd/journal
	"$PYTHON" - "$WORK/journal" <<'PY' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/run/systemd/journal/socket")
os.chmod("/run/systemd/journal/socket", 0o666)
with open(sys.argv[1], "wb", 0) as f:
    while True:
        data, fds, _, _ = socket.recv_fds(s, 1 << 20, 4)
        f.write(data + b"\n")
        for fd in fds:
            os.lseek(fd, 0, 0)
            f.write(os.read(fd, 1 << 20) + b"\n")
PY
	JOURNAL=$!
	PIDS+=("$JOURNAL")
	wait_for 5 test -S /run/systemd/journal/socket
}

modelserver_start || { fail "$SUITE" "no server"; suite_end; }
journal_take && JOURNAL_OPTION=--journal || JOURNAL_OPTION=
mkdir -p "$WORK/cores" && chmod 777 "$WORK/cores"
cd "$WORK/cores" || exit 1
ulimit -c unlimited
weir_start --port "$PORT" --state "$WORK/state" --verbose $JOURNAL_OPTION || { fail "$SUITE" "weir did not attach: $(tail -2 "$WEIR_LOG")"; suite_end; }

# A calm time, then a flood with the same needles, so that events are written, too.
PYTHON_FLOOD='{"model": "weir-tiny", "clients": [
  {"src": "127.0.0.51", "count": 6, "rate": 2, "duration": 30, "requests": [{"tokens": 3, "prompt": "needleprompt-alpha", "headers": {"authorization": "Bearer sk-needle-bearer-5d1f0c"}}]},
  {"src": "127.0.0.71", "start": 23, "rate": 150, "duration": 7, "requests": [{"tokens": 3, "prompt": "needleprompt-omega", "headers": {"x-api-key": "sk-needle-xapikey-77ab"}}]}]}'
why=
drive "127.0.0.1:$PORT" <<<"$PLAN" || why=$(drive_errors)
drive "127.0.0.1:$PORT" <<<"$PYTHON_FLOOD" || why="$why; $(drive_errors)"
if [ -n "$why" ]; then fail traffic "${why#; }"; else ok traffic; fi
wait_for 15 test -s "$WEIR_OUT"
settle

# What it tells who asks.
for by in client key user; do "$WEIR" clients --by $by --json --socket "$WORK/sock"; "$WEIR" clients --by $by --socket "$WORK/sock"; done >"$WORK/answers" 2>&1
{ weir_clients; "$WEIR" check --unknown --json --socket "$WORK/sock"; stat_of assemble; stat_of identity; } >>"$WORK/answers" 2>&1
looked() { # NAME FILE...: each of them must be there
	local name=$1 f
	shift
	for f in "$@"; do [ -s "$f" ] || { fail "$name" "$(basename "$f") is empty: nothing was looked at"; return; }; done
	if out=$("$PYTHON" "$WORK/look.py" "$WORK/needles" "$@"); then ok "$name"; else fail "$name" "$out"; fi
}
looked answers "$WORK/answers"
"$PYTHON" "$WORK/memory.py" "$WEIR_PID" "$WORK/memory"
grep -aq 'weir-tiny' "$WORK/memory" && ok memory-read || fail memory-read "its memory was not read"
looked memory "$WORK/memory"
helpers=$(pgrep -P "$WEIR_PID" | tr '\n' ' ')
for p in $helpers; do "$PYTHON" "$WORK/memory.py" "$p" "$WORK/memory-$p"; looked "memory-of-helper" "$WORK/memory-$p"; done
tool=$(command -v bpftool || echo /usr/sbin/bpftool)
if "$tool" version >/dev/null 2>&1; then
	n=$("$PYTHON" "$WORK/maps.py" "$tool" "$WEIR_PID" "$WORK/maps")
	if [ "${n:-0}" -ge 4 ]; then looked maps "$WORK/maps"; else fail maps "only ${n:-0} maps could be read"; fi
else
	skip maps "bpftool is not installed"
fi

# The core that is asked for in every way and must not come.
grep -q '^Max core file size  *0  *0 ' "/proc/$WEIR_PID/limits" && ok core-limit || fail core-limit "$(grep core "/proc/$WEIR_PID/limits")"
[ "$(stat -c %U "/proc/$WEIR_PID/mem")" = root ] && ok not-dumpable || fail not-dumpable "its memory belongs to $(stat -c %U "/proc/$WEIR_PID/mem")"
kill -INT "$WEIR_PID"; wait "$WEIR_PID"; WEIR_PID=
looked records "$RECORDS"
looked events "$WEIR_OUT"
looked log "$WEIR_LOG"
mapfile -t stored < <(find "$WORK/state" -type f -size +0)
looked store "${stored[@]}"
if [ -n "$JOURNAL" ]; then
	looked journal "$WORK/journal"
	end_pid "$JOURNAL"
	rm -f /run/systemd/journal/socket
else
	skip journal "a journald of the host's own runs here"
fi
# what was found in none of them was there: the hashes are
if [ "$(jq -r 'select(.api_key) | .api_key' "$RECORDS" | sort -u | wc -l)" -ge 5 ] && jq -se 'all(.api_key // "0123456789abcdef" | test("^[0-9a-f]{16}$"))' "$RECORDS" >/dev/null; then
	ok hashes
else
	fail hashes "$(jq -r .api_key "$RECORDS" | sort | uniq -c | tr '\n' ' ')"
fi
# and whoever looks would have found them
printf 'x%sx' "sk-needle-goog-90ff" >"$WORK/positive"
"$PYTHON" "$WORK/look.py" "$WORK/needles" "$WORK/positive" >/dev/null && fail control "the search finds nothing at all" || ok control

weir_start --port "$PORT" --state "$WORK/state" || { fail crash "weir did not attach again"; suite_end; }
drive "127.0.0.1:$PORT" <<<"$PLAN" || true
kill -ABRT "$WEIR_PID"; wait "$WEIR_PID" 2>/dev/null; WEIR_PID=
if find "$WORK/cores" -type f | grep -q .; then fail no-core "$(ls "$WORK/cores")"; else ok no-core; fi
server_end
suite_end
