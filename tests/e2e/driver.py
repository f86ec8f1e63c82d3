#!/usr/bin/env python3
"""Drives HTTP traffic described by a plan, and sums what every client was told.

usage: driver.py [--log FILE] [--timeout S] HOST:PORT PLAN.json|-

A plan is {"model": NAME, "key": KEY, "tls": over TLS, the server's certificate not looked at, "clients": [CLIENT, ...]}. Clients run at the same time.
CLIENT  src: source address (default: whatever the kernel takes), count: as many addresses from src on,
        parallel: connections of each address, keepalive (true), pipeline: requests sent before reading (1),
        hangs_up: the server closes after streams in spite of keep-alive, mss: TCP_MAXSEG, slow: bytes/s it reads at most, start: s to wait first, loops: times through requests,
        rate: requests/s (0: back to back), duration: s after which no request is begun, requests: [REQUEST, ...]
REQUEST api: chat completion embedding responses messages native ollama-chat ollama-generate ollama-embed get raw, repeat, stream, usage (include_usage),
        continuous, tokens (exactly so many, or until a natural end with "natural": true), prompt, prompt_bytes,
        echo, path, body (instead of the made one), raw (whole request; JSON \\u00xx are bytes), expect (statuses
        that are no error), abort_after (events; then the connection is reset), chunked (request body in chunks of so
        many bytes), split (bytes per send), headers {}, gzip (ask for it), answers (responses that raw brings, 1)
Prints {"clients": [{client_ip, requests, status_2xx, ..., prompt_tokens, ...}], "total": {...}, "errors": [...]}; --log
writes one line per request. Exit 1 if anything went otherwise than the plan says.
"""
import argparse
import ipaddress
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
import zlib

FIELDS = ("requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens", "cached_tokens",
          "estimated_tokens", "stream_errors", "aborted")
PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions", "embedding": "/v1/embeddings", "get": "/health",
         "responses": "/v1/responses", "messages": "/v1/messages", "native": "/completion",
         "ollama-chat": "/api/chat", "ollama-generate": "/api/generate", "ollama-embed": "/api/embed"}
KINDS = {"embedding": "embedding", "ollama-embed": "embedding", "get": None, "raw": None}
WORDS = ("river", "weir", "measure", "the", "of", "water", "spring", "keeper", "bell", "gate", "Fluss", "höhe", "川", "🌧", "42", "said:", '"yes"')
PROMPTS = ("Why does the river rise in spring?", "What did the miller say?", "Wie hoch ist das Wasser heute?", "川の水は?", 'Say "usage" and stop.')


class Gone(Exception):
    """The peer closed where an answer was expected."""


class Aborted(Exception):
    """The plan told this client to hang up here."""


def words(rng, n):
    out, size = [], 0
    while size < n:
        out.append(rng.choice(WORDS))
        size += len(out[-1].encode()) + 1
    return " ".join(out)


class Connection:
    """One socket with a read buffer."""

    def __init__(self, target, client, src, timeout, tls=None):
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.get("mss"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, client["mss"])
        self.slow = client.get("slow", 0)
        if self.slow:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if src:
            self.sock.bind((src, 0))
        self.sock.connect(target)
        if tls:
            self.sock = tls.wrap_socket(self.sock)
        self.data, self.at = b"", 0

    def send(self, data, split=0):
        if not split:
            self.sock.sendall(data)
            return
        for i in range(0, len(data), split):
            self.sock.sendall(data[i:i + split])
            time.sleep(0.0005)

    def more(self):
        size = 262144
        if self.slow:
            size = max(1, self.slow // 50)
            time.sleep(0.02)
        got = self.sock.recv(size)
        self.data = self.data[self.at:] + got
        self.at = 0
        return len(got) > 0

    def line(self):
        while (end := self.data.find(b"\n", self.at)) < 0:
            if not self.more():
                raise Gone("closed inside a line")
        out = self.data[self.at:end + 1]
        self.at = end + 1
        return out

    def take(self, n):
        while len(self.data) - self.at < n:
            if not self.more():
                raise Gone("closed inside a body")
        out = self.data[self.at:self.at + n]
        self.at += n
        return out

    def ended(self, wait):
        """Whether the peer closes within `wait` seconds."""
        timeout = self.sock.gettimeout()
        self.sock.settimeout(wait)
        try:
            if isinstance(self.sock, ssl.SSLSocket): # which cannot peek
                return self.at == len(self.data) and not self.more()
            return self.at == len(self.data) and not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        finally:
            self.sock.settimeout(timeout)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def body_pieces(conn, status, fields):
    """The decoded body of one response as it comes; sets fields[':close'] where the connection ends with it."""
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            size = int(conn.line().split(b";")[0], 16)
            if size == 0:
                while conn.line() not in (b"\r\n", b"\n"):
                    pass
                return
            piece = conn.take(size + 2)
            yield piece[:-2]
    elif "content-length" in fields:
        left = int(fields["content-length"])
        while left:
            n = min(left, max(1, len(conn.data) - conn.at))
            yield conn.take(n)
            left -= n
    elif status not in (204, 304):
        fields[":close"] = "1"
        while True:
            if conn.at < len(conn.data):
                yield conn.take(len(conn.data) - conn.at)
            if not conn.more():
                return


def gunzip(pieces):
    z = zlib.decompressobj(31)
    for piece in pieces:
        yield z.decompress(piece)
    yield z.flush()


class Told:
    """What one response says about itself."""

    def __init__(self):
        self.prompt = self.completion = self.cached = None
        self.deltas = self.events = 0
        self.error = False
        self.model = self.content_at = self.finish = None

    def batch(self, answers):
        """An array in one piece: each answer tells of itself."""
        each = [Told() for _ in answers]
        for told, o in zip(each, answers):
            told.object(o, False)
        for name in ("prompt", "completion", "cached"):
            counts = [n for n in (getattr(t, name) for t in each) if n is not None]
            setattr(self, name, sum(counts) if counts else None)
        self.error = any(t.error for t in each)
        for t in each:
            self.model, self.finish = t.model or self.model, t.finish or self.finish

    def object(self, o, streamed):
        if not isinstance(o, dict):
            return
        self.error = self.error or bool(o.get("error")) or o.get("type") == "error"
        inner = o.get("response") if isinstance(o.get("response"), dict) else o.get("message") if isinstance(o.get("message"), dict) else {}
        self.model = o.get("model") or inner.get("model") or self.model
        for choice in o.get("choices") or []:
            self.finish = choice.get("finish_reason") or self.finish
        self.finish = o.get("done_reason") or self.finish
        usage = o.get("usage") or inner.get("usage")
        timings = o.get("timings") or {}
        if "predicted_n" in timings and not usage and self.completion is None:
            usage = {"prompt_tokens": timings.get("cache_n", 0) + timings["prompt_n"], "completion_tokens": timings["predicted_n"],
                     "prompt_tokens_details": {"cached_tokens": timings.get("cache_n", 0)}}
        if "tokens_evaluated" in o:
            usage = {"prompt_tokens": o["tokens_evaluated"], "completion_tokens": o["tokens_predicted"],
                     "prompt_tokens_details": {"cached_tokens": timings.get("cache_n", self.cached or 0)}}
        if isinstance(o.get("eval_count"), int):
            usage = {"prompt_tokens": o.get("prompt_eval_count", 0), "completion_tokens": o["eval_count"]}
        elif isinstance(o.get("prompt_eval_count"), int):
            usage = {"prompt_tokens": o["prompt_eval_count"]}
        if isinstance(usage, dict):
            self.usage(usage)
        if streamed:
            self.delta(o)

    def usage(self, u):
        if "prompt_tokens" in u:
            self.prompt = u["prompt_tokens"]
        elif "input_tokens" in u:
            self.prompt = u["input_tokens"] + u.get("cache_read_input_tokens", 0) + u.get("cache_creation_input_tokens", 0)
        for name in ("completion_tokens", "output_tokens"):
            if name in u:
                self.completion = u[name]
        details = u.get("prompt_tokens_details") or u.get("input_tokens_details") or {}
        if "cached_tokens" in details or "cache_read_input_tokens" in u:
            self.cached = details.get("cached_tokens", u.get("cache_read_input_tokens"))

    def delta(self, o):
        self.events += 1
        choice = (o.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        text = delta.get("content", choice.get("text", o.get("content") if "tokens_predicted" in o or "stop" in o else None))
        if o.get("type") in ("response.output_text.delta", "content_block_delta"):
            text = o["delta"] if isinstance(o["delta"], str) else o["delta"].get("text")
        if not o.get("choices") and "done" in o:
            text = o.get("response") or (o.get("message") or {}).get("content") or None
        # an empty text is a part of a character, but beside a role only the stream's beginning
        if text or (text is not None and "role" not in delta):
            self.deltas += 1
        if text and self.content_at is None:
            self.content_at = time.monotonic()


def read_response(conn, method, abort_after, told):
    """Reads one final response; answers (status, header fields)."""
    while True:
        first = conn.line()
        status = int(first.split()[1])
        fields = {}
        while (line := conn.line()) not in (b"\r\n", b"\n"):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        if status >= 200:
            break
    if method == "HEAD":
        return status, fields
    pieces = body_pieces(conn, status, fields)
    if fields.get("content-encoding") == "gzip":
        pieces = gunzip(pieces)
    kind = fields.get("content-type", "")
    if "event-stream" in kind or "ndjson" in kind:
        rest = b""
        for piece in pieces:
            rest += piece
            if b"\n" not in piece:
                continue
            lines = rest.split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line.startswith(b"data:"):
                    line = line[5:]
                elif "event-stream" in kind:
                    continue
                line = line.strip()
                if line[:1] != b"{":
                    continue
                told.object(json.loads(line), True)
                if abort_after and told.events >= abort_after:
                    raise Aborted()
    else:
        body = b"".join(pieces)
        if "json" in kind and body:
            whole = json.loads(body)
            told.batch(whole) if isinstance(whole, list) else told.object(whole, False)
    return status, fields


class Client(threading.Thread):
    def __init__(self, run, plan, src, number):
        super().__init__(daemon=True)
        self.run_state, self.plan, self.src, self.number = run, plan, src, number
        self.rng = random.Random(f"{run.seed}/{src}/{number}")
        self.conn = None

    def build(self, req):
        """(method, path, bytes) of one request."""
        if req.get("api") == "raw":
            return "GET", "", req["raw"].encode("latin-1")
        api, run = req.get("api", "chat"), self.run_state
        path = req.get("path", PATHS[api])
        fields = {"host": "localhost", "user-agent": "weir-driver", "accept": "*/*", **req.get("headers", {})}
        if run.plan.get("key"):
            fields.setdefault("authorization", "Bearer " + run.plan["key"])
        if req.get("gzip"):
            fields["accept-encoding"] = "gzip"
        if not self.plan.get("keepalive", True):
            fields["connection"] = "close"
        method, body = req.get("method", "GET" if api == "get" else "POST"), b""
        if "body" in req:
            body = req["body"].encode()
        elif api != "get":
            body = json.dumps(self.document(api, req), ensure_ascii=self.rng.random() < 0.5).encode()
        if body or method == "POST":
            fields["content-type"] = "application/json"
            if req.get("chunked"):
                n = req["chunked"]
                fields["transfer-encoding"] = "chunked"
                body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + n]), body[i:i + n]) for i in range(0, len(body), n)) + b"0\r\n\r\n"
            else:
                fields["content-length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        return method, path, head.encode("latin-1") + body

    def document(self, api, req):
        prompt = req.get("prompt") or (words(self.rng, req["prompt_bytes"]) if "prompt_bytes" in req else self.rng.choice(PROMPTS))
        doc = {"model": req.get("model", self.run_state.plan.get("model", "weir-tiny"))}
        if api in ("embedding", "ollama-embed"):
            return {**doc, "input": prompt, **req.get("extra", {})}
        n = req.get("tokens", 16)
        if api.startswith("ollama"):
            asked = {"prompt": prompt} if api == "ollama-generate" else {"messages": [{"role": "user", "content": prompt}]}
            return {**doc, **asked, "stream": bool(req.get("stream")), "options": {"num_predict": n, "seed": 1}, **req.get("extra", {})}
        doc.update({"responses": {"input": prompt, "max_output_tokens": n}, "completion": {"prompt": prompt, "max_tokens": n},
                    "native": {"prompt": prompt, "n_predict": n, "cache_prompt": True}}.get(
                        api, {"messages": [{"role": "user", "content": prompt}], "max_tokens": n}))
        if not req.get("natural"):
            doc["ignore_eos"] = True
        if req.get("echo"):
            doc["echo"] = True
        if req.get("stream"):
            doc["stream"] = True
            if req.get("usage"):
                doc["stream_options"] = {"include_usage": True}
                if req.get("continuous"):
                    doc["stream_options"]["continuous_usage_stats"] = True
        return {**doc, **req.get("extra", {})}

    def connect(self):
        if not self.conn:
            self.conn = Connection(self.run_state.target, self.plan, self.src, self.run_state.timeout, self.run_state.tls)
        return self.conn

    def exchange(self, batch):
        conn = self.connect()
        begun, began = time.time(), time.monotonic()
        built = [self.build(r) for r in batch]
        # the answer to a request can come before its last byte is sent; a server that refuses closes meanwhile
        try:
            conn.send(b"".join(b for _, _, b in built), batch[0].get("split", 0))
        except (BrokenPipeError, ConnectionResetError):
            pass
        for req, (method, path, _) in zip(batch, built):
            for _ in range(req.get("answers", 1)):
                told, status, fields, aborted = Told(), 0, {}, False
                try:
                    status, fields = read_response(conn, method, req.get("abort_after", 0), told)
                except Aborted:
                    conn.reset()
                    self.conn, status, aborted = None, 200, True
                ended = time.monotonic()
                self.run_state.book(self.src or conn_name(conn), req, status, told, aborted, {
                    "timestamp": begun, "path": path, "stream": bool(req.get("stream")), "model_name": told.model,
                    "ttft_ms": None if told.content_at is None else (told.content_at - began) * 1e3, "duration_ms": (ended - began) * 1e3})
                if aborted:
                    return
                if fields.get(":close") or "close" in fields.get("connection", ""):
                    conn.sock.close()
                    self.conn = None
        if self.conn and (not self.plan.get("keepalive", True) or (self.plan.get("hangs_up") and batch[-1].get("stream") and self.conn.ended(0.2))):
            self.conn.sock.close()
            self.conn = None

    def run(self):
        plan, run = self.plan, self.run_state
        try:
            time.sleep(plan.get("start", 0))
            begun = due = time.monotonic()
            for _ in range(plan.get("loops", 1 if not plan.get("duration") else 1 << 30)):
                queue = [r for r in plan["requests"] for _ in range(r.get("repeat", 1))]
                while queue:
                    if plan.get("duration") and time.monotonic() - begun > plan["duration"]:
                        return
                    batch, queue = queue[:plan.get("pipeline", 1)], queue[plan.get("pipeline", 1):]
                    if plan.get("rate"):
                        due += (self.rng.expovariate(plan["rate"]) if plan.get("poisson", True) else 1 / plan["rate"])
                        time.sleep(max(0, due - time.monotonic()))
                        if plan.get("duration") and time.monotonic() - begun > plan["duration"]:
                            return
                    self.exchange(batch)
        except Exception as e:  # every failure ends in the report
            run.fail(f"{self.src}: {type(e).__name__}: {e}")
        finally:
            if self.conn:
                self.conn.sock.close()


def conn_name(conn):
    return conn.sock.getsockname()[0]


class Run:
    def __init__(self, target, plan, args):
        self.target, self.plan, self.timeout = target, plan, args.timeout
        self.seed = plan.get("seed", 1)
        self.lock = threading.Lock()
        self.clients, self.errors = {}, []
        self.log = open(args.log, "w") if args.log else None
        self.tls = None
        if plan.get("tls"):
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.tls.check_hostname = False
            self.tls.verify_mode = ssl.CERT_NONE

    def fail(self, text):
        with self.lock:
            self.errors.append(text)

    def book(self, src, req, status, told, aborted, record):
        used = told.prompt is not None or told.completion is not None
        with self.lock:
            c = self.clients.setdefault(src, dict.fromkeys(FIELDS, 0))
            c["requests"] += 1
            c[f"status_{min(status // 100, 5)}xx"] = c.get(f"status_{min(status // 100, 5)}xx", 0) + 1
            c["prompt_tokens"] += told.prompt or 0
            c["completion_tokens"] += told.completion or 0
            c["cached_tokens"] += told.cached or 0
            c["estimated_tokens"] += 0 if used else told.deltas
            c["stream_errors"] += status < 300 and told.error
            c["aborted"] += aborted
            if self.log:
                self.log.write(json.dumps({**record, "client_ip": src, "status": status, "aborted": aborted, "error": told.error,
                                           "prompt_tokens": told.prompt, "completion_tokens": told.completion, "cached_tokens": told.cached,
                                           "deltas": told.deltas, "reported": used, "finish_reason": told.finish,
                                           "kind": None if "path" in req else KINDS.get(req.get("api", "chat"), "inference")}) + "\n")
            good = req.get("expect", [200])
            if status not in (good if isinstance(good, list) else [good]):
                self.errors.append(f"{src}: {record['path']}: status {status}, expected {good}")
            if req.get("tokens") and not req.get("natural") and not req.get("loose") and status == 200 and told.completion is not None \
                    and not aborted and not told.error and told.completion != req["tokens"]:
                self.errors.append(f"{src}: told {told.completion} tokens, asked for {req['tokens']}")

    def report(self, elapsed):
        total = {f: sum(c[f] for c in self.clients.values()) for f in FIELDS}
        out = [{"client_ip": ip, **c} for ip, c in sorted(self.clients.items())]
        return {"clients": out, "total": total, "elapsed_s": round(elapsed, 3), "errors": self.errors[:20], "failed": len(self.errors)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--log")
    ap.add_argument("--timeout", type=float, default=60)
    ap.add_argument("target")
    ap.add_argument("plan")
    args = ap.parse_args()
    plan = json.load(sys.stdin if args.plan == "-" else open(args.plan))
    host, port = args.target.rsplit(":", 1)
    run = Run((host.strip("[]"), int(port)), plan, args)
    threads = []
    for spec in plan["clients"]:
        for i in range(spec.get("count", 1)):
            src = str(ipaddress.ip_address(spec["src"]) + i) if spec.get("src") else None
            threads += [Client(run, spec, src, len(threads) + k) for k in range(spec.get("parallel", 1))]
    begun = time.monotonic()
    threading.stack_size(1 << 20)
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    report = run.report(time.monotonic() - begun)
    if run.log:
        run.log.close()
    print(json.dumps(report, indent=1))
    return 1 if run.errors else 0


if __name__ == "__main__":
    sys.exit(main())
