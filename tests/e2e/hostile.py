#!/usr/bin/env python3
"""Bytes that nobody should send.

usage: hostile.py serve PORT              a server whose answers lie, by path (see ANSWERS)
       hostile.py attack NAME HOST:PORT   one client's attack (see the functions attack_NAME)
       hostile.py list

Every attack is bounded in time and bytes. Exit 0 when it was carried out, whatever the server made of it.
"""
import os
import random
import socket
import struct
import sys
import threading
import time

GOOD = b'{"id":"x","model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'


def answer(body, head=b"", length=None, kind=b"application/json"):
    n = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + head + b"content-length: %d\r\n\r\n" % n + body


def usage(prompt, completion=b"5"):
    return answer(b'{"model":"m","usage":{"prompt_tokens":' + prompt + b',"completion_tokens":' + completion + b"}}")


def chunked(*chunks):
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(chunks)


ANSWERS = {  # path: (bytes, whether the connection stays usable)
    "/v1/chat/completions": (answer(GOOD), True),
    "/beyond-64-bits": (usage(b"99999999999999999999999999999999"), True),
    "/near-64-bits": (usage(b"18446744073709551615"), True),
    "/negative": (usage(b"-5"), True),
    "/fraction": (usage(b"3.7"), True),
    "/exponent": (usage(b"1e3"), True),
    "/text": (usage(b'"12"'), True),
    "/null": (usage(b"null"), True),
    "/deep": (answer(b'{"x":' + b'{"x":[' * 100 + b"1" + b"]}" * 100 + b"," + GOOD[1:]), True),
    "/many-fields": (answer(GOOD, head=b"".join(b"x-filler-%d: %d\r\n" % (i, i) for i in range(10000))), False),
    "/more-than-announced": (answer(GOOD + b"x" * 300, length=len(GOOD)), False),
    "/less-than-announced": (answer(GOOD, length=1000000), False),
    "/absurd-length": (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n" + GOOD, False),
    "/negative-length": (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n" + GOOD, False),
    "/bad-chunk": (chunked(b"zz\r\n", GOOD, b"\r\n0\r\n\r\n"), False),
    "/huge-chunk": (chunked(b"ffffffffffffffff\r\n", GOOD, b"\r\n0\r\n\r\n"), False),
    "/no-head": (random.Random(1).randbytes(5000), False),
    "/no-status": (b"HTTP/1.1 abc\r\n\r\n" + GOOD, False),
    "/two-for-one": (answer(GOOD) + answer(b"{}"), False),
    "/binary-stream": (answer(b"data: " + random.Random(2).randbytes(40000), kind=b"text/event-stream"), True),
    "/unterminated-event": (answer(b'data: {"choices":[{"delta":{"content":"' + b"a" * 300000, kind=b"text/event-stream"), True),
    "/repeated-usage": (answer(b'{"usage":{"prompt_tokens":1}}\n' * 20000), True),
}


def serve_one(sock):
    data = b""
    try:
        while True:
            while b"\r\n\r\n" not in data:
                got = sock.recv(65536)
                if not got:
                    return
                data += got
            head, _, data = data.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n")[1:]:
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            while len(data) < length:
                got = sock.recv(65536)
                if not got:
                    return
                data += got
            data = data[length:]
            reply, stays = ANSWERS.get(head.split()[1].decode(), (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", True))
            sock.sendall(reply)
            if not stays:
                return
    except OSError:
        pass
    finally:
        sock.close()


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve_one, args=(sock,), daemon=True).start()


SRC = "127.0.0.66"


def dial(target, timeout=10):
    s = socket.socket()
    s.settimeout(timeout)
    s.bind((SRC, 0))
    s.connect(target)
    return s


def drain(s, seconds=2):
    """Reads what comes until the peer closes, for a bounded time."""
    end, n = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end:
            s.settimeout(max(0.01, end - time.monotonic()))
            got = s.recv(1 << 20)
            if not got:
                break
            n += len(got)
    except OSError:
        pass
    return n


def push(s, data):
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


def attack_garbage(target):
    rng = random.Random(3)
    for i in range(30):
        s = dial(target)
        push(s, rng.randbytes(1 + rng.randrange(100000)))
        drain(s, 0.1)
        s.close()


def attack_almost(target):
    """Beginnings of requests, cut everywhere, and requests with one byte changed."""
    good = (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n"
            b'{"model":"weir-tiny","prompt":"abcdefg"}')
    rng = random.Random(4)
    for i in range(len(good)):
        s = dial(target)
        push(s, good[:i])
        s.close()
        bad = bytearray(good)
        bad[i] = rng.randrange(256)
        s = dial(target)
        push(s, bytes(bad))
        drain(s, 0.02)
        s.close()


def attack_tls(target):
    hello = bytes.fromhex("16030100f8010000f40303") + random.Random(5).randbytes(32) + b"\x20" + random.Random(6).randbytes(200)
    for _ in range(30):
        s = dial(target)
        push(s, hello)
        drain(s, 0.05)
        s.close()


def attack_http2(target):
    for _ in range(30):
        s = dial(target)
        push(s, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + os.urandom(300))
        drain(s, 0.05)
        s.close()


def attack_slowloris(target):
    """500 heads that never end, a byte at a time."""
    conns = [dial(target) for _ in range(500)]
    text = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-a: "
    for i in range(len(text)):
        for s in conns:
            push(s, text[i:i + 1])
    for _ in range(20):
        for s in conns:
            push(s, b"a")
        time.sleep(0.05)
    for s in conns:
        s.close()


def attack_fields(target):
    s = dial(target)
    push(s, b"GET /health HTTP/1.1\r\n" + b"".join(b"x-filler-%d: %d\r\n" % (i, i) for i in range(10000)) + b"\r\n")
    drain(s)
    s.close()


def attack_long_line(target):
    s = dial(target)
    push(s, b"GET /" + b"a" * 5000000 + b" HTTP/1.1\r\n\r\n")
    drain(s)
    s.close()


def attack_deep(target):
    for body in (b"[" * 200 + b"]" * 200, b'{"a":' * 200 + b"1" + b"}" * 200, b"[" * 100000):
        s = dial(target)
        push(s, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        drain(s, 1)
        s.close()


def attack_gigabyte(target):
    s = dial(target, 60)
    threading.Thread(target=drain, args=(s, 60), daemon=True).start()
    push(s, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + b'{"usage":{"prompt_tokens":5}} ' * 34952 + b"a" * 16 + b"\r\n"
    for _ in range(1024):
        if not push(s, piece):
            break
    push(s, b"0\r\n\r\n")
    s.close()


def attack_gigabyte_length(target):
    s = dial(target, 60)
    threading.Thread(target=drain, args=(s, 60), daemon=True).start()
    push(s, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n")
    piece = b"b" * (1 << 20)
    for _ in range(1024):
        if not push(s, piece):
            break
    s.close()


def attack_lengths(target):
    for value in (b"-1", b"99999999999999999999999999", b"0x10", b"5 5", b"", b"+7", b"1e9", b"3"):
        s = dial(target)
        push(s, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: " + value + b"\r\n\r\n" + b"{}" * 300)
        drain(s, 0.3)
        s.close()
    for size in (b"zz", b"ffffffffffffffffffff", b"-1", b"7fffffffffffffff", b""):
        s = dial(target)
        push(s, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + size + b"\r\n" + b"{}" * 300)
        drain(s, 0.3)
        s.close()


def attack_smuggle(target):
    s = dial(target)
    push(s, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    drain(s, 0.5)
    s.close()


# ---- segments made by hand -------------------------------------------------------------------------------------------
def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def segment(src, dst, seq, ack, payload, good, flags=0x18):
    """An IPv4 packet; with good=False the TCP checksum is wrong, and every stack drops it."""
    tcp = struct.pack("!HHIIBBHHH", src[1], dst[1], seq & 0xffffffff, ack & 0xffffffff, 5 << 4, flags, 65535, 0, 0)
    pseudo = socket.inet_aton(src[0]) + socket.inet_aton(dst[0]) + struct.pack("!BBH", 0, 6, len(tcp) + len(payload))
    c = checksum(pseudo + tcp + payload) ^ (0 if good else 0x5555)
    tcp = tcp[:16] + struct.pack("!H", c) + tcp[18:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 1, 0, 64, 6, 0, socket.inet_aton(src[0]), socket.inet_aton(dst[0]))
    return head + tcp + payload


def sequence(s):
    """(send, receive) sequence numbers of a connected socket, by TCP_REPAIR."""
    s.setsockopt(socket.IPPROTO_TCP, 19, 1)
    out = []
    for queue in (2, 1):
        s.setsockopt(socket.IPPROTO_TCP, 20, queue)
        out.append(s.getsockopt(socket.IPPROTO_TCP, 21) & 0xffffffff)
    s.setsockopt(socket.IPPROTO_TCP, 20, 0)
    s.setsockopt(socket.IPPROTO_TCP, 19, -1)
    return out


def forge(target, make):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    body = b'{"model":"weir-tiny","prompt":"abcdefg","max_tokens":9,"ignore_eos":true}'
    request = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    for _ in range(10):
        s = dial(target)
        seq, ack = sequence(s)
        for packet in make(s.getsockname(), target, seq, ack, request):
            raw.sendto(packet, (target[0], 0))
        push(s, request)
        got = b""
        s.settimeout(2)
        try:
            while b"usage" not in got:
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
        except OSError:
            pass
        if b"200 OK" not in got:
            print("the real request was not answered", file=sys.stderr)
            sys.exit(1)
        s.close()


def attack_far_off(target):
    """Whole requests far outside the window, before and after: no stack takes them, nobody may count them."""
    forge(target, lambda a, b, seq, ack, req: [segment(a, b, seq + d, ack, req, True) for d in (0x40000000, -0x40000000, 0x7fffffff, 50000000)])


def attack_bad_checksum(target):
    """A whole request in the window with a wrong checksum: the stack drops it, the hook sees it."""
    forge(target, lambda a, b, seq, ack, req: [segment(a, b, seq, ack, req.replace(b"abcdefg", b"evil!!!"), False)])


def attack_stray(target):
    """Segments of connections that do not exist, with everything wrong."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    rng = random.Random(7)
    for i in range(5000):
        raw.sendto(segment((SRC, 1024 + rng.randrange(60000)), target, rng.randrange(1 << 32), 0, rng.randbytes(rng.randrange(1000)), i % 2 == 0,
                           rng.randrange(256)), (target[0], 0))


def main():
    if len(sys.argv) == 2 and sys.argv[1] == "list":
        print("\n".join(sorted(n[7:] for n in globals() if n.startswith("attack_"))))
    elif len(sys.argv) == 3 and sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "attack" and "attack_" + sys.argv[2] in globals():
        host, port = sys.argv[3].rsplit(":", 1)
        globals()["attack_" + sys.argv[2]]((host, int(port)))
    else:
        print(__doc__, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
