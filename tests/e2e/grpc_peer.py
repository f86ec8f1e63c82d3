#!/usr/bin/env python3
"""A gRPC server of Triton's, TEI's and IBM's text services, and a client that says what it was told. Needs grpcio; messages are written by hand.

usage: grpc_peer.py serve PORT | grpc_peer.py drive PORT [gzip]
"""
import json
import struct
import sys
import threading
from concurrent import futures

import grpc

INFER = "/inference.GRPCInferenceService/"
WORDS = ("The", " weir", " holds", " the", " water", " Über", " 川", ' "usage"', "\n")


def varint(v):
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def count(field, v):
    return varint(field << 3) + varint(v)


def put(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def fields(data):
    """[(field, value)] of one message."""
    out, at = [], 0

    def number():
        nonlocal at
        v = shift = 0
        while True:
            b = data[at]
            at += 1
            v |= (b & 127) << shift
            shift += 7
            if b < 128:
                return v
    while at < len(data):
        key = number()
        if key & 7 == 2:
            n = number()
            out.append((key >> 3, data[at:at + n]))
            at += n
        else:
            out.append((key >> 3, number()))
    return out


def tensor(name, kind):
    return put(1, name) + put(2, kind) + count(3, 1)


def raw_text(text):
    return struct.pack("<I", len(text.encode())) + text.encode()


def infer_request(prompt, tokens, stream):
    return (put(1, "llama") + put(3, "r") + put(5, tensor("text_input", "BYTES")) + put(5, tensor("stream", "BOOL")) + put(5, tensor("max_tokens", "INT32")) +
            put(7, raw_text(prompt)) + put(7, bytes([stream])) + put(7, struct.pack("<i", tokens)))


def infer_answer(text, made, prompt):
    return (put(1, "llama") + put(3, "r") + put(5, tensor("text_output", "BYTES")) + put(5, tensor("num_output_tokens", "UINT32")) +
            put(5, tensor("num_input_tokens", "UINT32")) + put(6, raw_text(text)) + put(6, struct.pack("<I", made)) + put(6, struct.pack("<I", prompt)))


def text_of(made):
    return "".join(WORDS[i % len(WORDS)] for i in range(made))


class Server(grpc.GenericRpcHandler):
    def service(self, call):
        return {INFER + "ModelInfer": grpc.unary_unary_rpc_method_handler(self.infer),
                INFER + "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.infer_stream),
                INFER + "ServerLive": grpc.unary_unary_rpc_method_handler(lambda r, c: b""),
                "/tei.v1.Embed/Embed": grpc.unary_unary_rpc_method_handler(self.embed),
                "/fmaas.GenerationService/GenerateStream": grpc.unary_stream_rpc_method_handler(self.fmaas),
                "/my.Own/Call": grpc.unary_unary_rpc_method_handler(lambda r, c: r)}.get(call.method)

    @staticmethod
    def read(request):
        raw = [v for f, v in fields(request) if f == 7]
        return raw[0][4:].decode(), struct.unpack("<i", raw[2])[0]

    def infer(self, request, context):
        prompt, tokens = self.read(request)
        if prompt == "deny":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
        if prompt == "fail":
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return infer_answer(text_of(tokens), tokens, len(prompt.split()))

    def infer_stream(self, requests, context):
        for request in requests:
            prompt, tokens = self.read(request)
            for i in range(tokens):
                yield put(2, infer_answer(WORDS[i % len(WORDS)], 1, len(prompt.split())))

    def embed(self, request, context):
        words = len(dict(fields(request))[1].split())
        return put(1, struct.pack("<f", 0.5) * 4096) + put(2, count(1, 10) + count(2, words))

    def fmaas(self, request, context):
        yield count(6, 5)
        for i in range(20):
            yield count(2, i + 1) + put(4, WORDS[i % len(WORDS)]) + (count(7, 1) if i == 19 else b"")


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_concurrent_streams", 1000)])
    server.add_generic_rpc_handlers((Server(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def drive(port, compression):
    told = dict.fromkeys(("requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens", "cached_tokens", "estimated_tokens", "aborted"), 0)
    lock, errors = threading.Lock(), []

    def add(status, prompt=0, completion=0):
        with lock:
            told["requests"] += 1
            told[f"status_{status // 100}xx"] += 1
            told["prompt_tokens"] += prompt
            told["completion_tokens"] += completion

    def client(number):
        try:
            channel = grpc.insecure_channel(f"127.0.0.1:{port}", compression=compression, options=[("grpc.use_local_subchannel_pool", 1)])
            infer, stream = channel.unary_unary(INFER + "ModelInfer"), channel.stream_stream(INFER + "ModelStreamInfer")
            for i in range(20):
                prompt = "why " * (i + 1) + str(number)
                got = infer(infer_request(prompt, 7 + i, False))
                raw = [v for f, v in fields(got) if f == 6]
                add(200, struct.unpack("<I", raw[2])[0], struct.unpack("<I", raw[1])[0])
            made = 0
            for got in stream(iter([infer_request("why is it", 50 + number, True)])):
                made += struct.unpack("<I", [v for f, v in fields(dict(fields(got))[2]) if f == 6][1])[0]
            add(200, 3, made)
            for prompt, status in (("deny", 429), ("fail", 503)):
                try:
                    infer(infer_request(prompt, 1, False))
                    errors.append(f"{prompt}: no error")
                except grpc.RpcError:
                    add(status)
            channel.unary_unary("/tei.v1.Embed/Embed")(put(1, "one two three"))
            add(200, 3)
            list(channel.unary_stream("/fmaas.GenerationService/GenerateStream")(put(1, "g") + put(3, put(2, "why"))))
            add(200, 5, 20)
            channel.unary_unary("/my.Own/Call")(b"x" * 100000)
            add(200)
            channel.unary_unary(INFER + "ServerLive")(b"")
            add(200)
            if number == 0:
                made = sum(1 for _ in stream(iter([infer_request("long", 20000, True)])))
                add(200, 1, made)
            channel.close()
        except Exception as e:  # ends in the report
            errors.append(f"{type(e).__name__}: {e}")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(json.dumps({"clients": [{"client_ip": "127.0.0.1", **told}], "total": told, "errors": errors}))
    return 1 if errors else 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(drive(sys.argv[2], grpc.Compression.Gzip if "gzip" in sys.argv else grpc.Compression.NoCompression))
