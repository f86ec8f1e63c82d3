#!/usr/bin/env python3
"""A server whose engine is a shared library: each request "computes" by llama_decode() calls of known size.

usage: engine_server.py PORT LIBRARY [fork]

POST /v1/completions {"prompt": any, "max_tokens": N, "extra": M}: one batch for the prompt (words), N - 1 of one token, and one of M tokens
that no usage tells of; with `fork` in a child of its own. GET /computed answers what was computed so far.
"""
import ctypes
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32)] + [(n, ctypes.c_void_p) for n in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")]


lib = ctypes.CDLL(sys.argv[2])
lib.llama_decode.argtypes = [ctypes.c_void_p, Batch]
computed = 0


def decode(n):
    global computed
    if "fork" in sys.argv[3:]:
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(lib.llama_decode(None, Batch(n, None, None, None, None, None, None)) != n)
        computed += n
        return
    assert lib.llama_decode(None, Batch(n, None, None, None, None, None, None)) == n
    computed += n


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, what):
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"computed": computed})

    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt, completion = len(ask["prompt"].split()), ask["max_tokens"]
        decode(prompt)
        for _ in range(completion - 1):
            decode(1)
        if ask.get("extra"):
            decode(ask["extra"])
        self.answer({"choices": [{"text": "x", "finish_reason": "length"}], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
