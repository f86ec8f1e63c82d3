#!/usr/bin/env python3
"""As driver.py, over HTTP/2: with prior knowledge, or in TLS by ALPN (needs the h2 package). usage: as driver.py's

`pipeline` of a client is how many streams of its connection run at once; `abort_after` resets the stream and keeps the connection;
`split` is the size of DATA frames; `chunked` leaves out content-length.
"""
import socket
import sys

import driver
import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes


class Stream:
    """One stream, read as driver.py reads a connection of HTTP/1: a head, then a body that ends with the stream."""

    def __init__(self, owner, number):
        self.owner, self.number = owner, number
        self.data, self.at, self.over, self.head = bytearray(), 0, False, b""

    def more(self):
        if self.over:
            return False
        self.owner.pump()
        return True

    def line(self):
        while (end := self.data.find(b"\n", self.at)) < 0:
            if not self.more():
                raise driver.Gone("the stream ended inside a line")
        out = bytes(self.data[self.at:end + 1])
        self.at = end + 1
        return out

    def take(self, n):
        while len(self.data) - self.at < n:
            if not self.more():
                raise driver.Gone("the stream ended inside a body")
        out = bytes(self.data[self.at:self.at + n])
        self.at += n
        if self.at > 65536:
            del self.data[:self.at]
            self.at = 0
        return out

    def reset(self):
        self.over = True
        self.owner.forget(self.number)


class H2Connection:
    def __init__(self, target, plan, src, timeout, tls=None):
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if src:
            self.sock.bind((src, 0))
        self.sock.connect(target)
        self.scheme = "https" if tls else "http"
        if tls:
            tls.set_alpn_protocols(["h2"])
            self.sock = tls.wrap_socket(self.sock)
            if self.sock.selected_alpn_protocol() != "h2":
                raise driver.Gone("the server does not take HTTP/2")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 30)
        self.streams, self.waiting = {}, {}
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def request(self, head, body, split):
        """Opens a stream for a request that driver.py wrote as HTTP/1."""
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        host = next((v for k, v in fields if k.lower() == "host"), "localhost")
        out = [(":method", method), (":scheme", self.scheme), (":authority", host), (":path", path)]
        out += [(k.lower(), v) for k, v in fields if k.lower() not in ("host", "transfer-encoding", "connection")]
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = stream = Stream(self, number)
        self.h2.send_headers(number, out, end_stream=not body)
        if body:
            self.waiting[number] = [body, split]
            self.push(number)
        self.flush()
        return stream

    def push(self, number):
        """As much of a body as the window allows."""
        body, split = self.waiting[number]
        while body:
            n = min(len(body), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, split or 1 << 20)
            if n <= 0:
                self.waiting[number][0] = body
                return
            self.h2.send_data(number, body[:n], end_stream=n == len(body))
            body = body[n:]
            if split:
                self.flush()
        del self.waiting[number]

    def forget(self, number):
        if number in self.streams:
            del self.streams[number]
            self.waiting.pop(number, None)
            self.h2.reset_stream(number, ErrorCodes.CANCEL)
            self.flush()

    def pump(self):
        got = self.sock.recv(1 << 18)
        if not got:
            for s in self.streams.values():
                s.over = True
            raise driver.Gone("the connection was closed")
        for e in self.h2.receive_data(got):
            number = getattr(e, "stream_id", None)
            s = self.streams.get(number)
            if isinstance(e, h2.events.DataReceived):
                if e.flow_controlled_length:
                    try:
                        self.h2.acknowledge_received_data(e.flow_controlled_length, number)
                    except h2.exceptions.StreamClosedError:
                        pass
                if s:
                    s.data += e.data
            elif isinstance(e, h2.events.ResponseReceived) and s:
                fields = dict(e.headers)
                s.data += f"HTTP/1.1 {fields.pop(':status')} x\r\n".encode()
                fields.pop("content-length", None)
                s.data += "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode("latin-1") + b"\r\n"
            elif isinstance(e, h2.events.StreamEnded) and s:
                s.over = True
                self.streams.pop(number)
            elif isinstance(e, h2.events.StreamReset) and s:
                s.over = True
                self.streams.pop(number)
            elif isinstance(e, h2.events.WindowUpdated):
                for n in [number] if number else list(self.waiting):
                    if n in self.waiting:
                        self.push(n)
        self.flush()


class H2Client(driver.Client):
    def connect(self):
        if not self.conn:
            self.conn = H2Connection(self.run_state.target, self.plan, self.src, self.run_state.timeout, self.run_state.tls)
        return self.conn

    def exchange(self, batch):
        conn = self.connect()
        begun, began = driver.time.time(), driver.time.monotonic()
        streams = []
        for req in batch:
            length = req.pop("chunked", 0)
            method, path, raw = self.build(req)
            head, _, body = raw.partition(b"\r\n\r\n")
            if length:
                head = b"\r\n".join(x for x in head.split(b"\r\n") if not x.lower().startswith(b"content-length:"))
            streams.append((req, method, path, conn.request(head, body, req.get("split", 0))))
        for req, method, path, stream in streams:
            told, status, aborted = driver.Told(), 0, False
            try:
                status, _ = driver.read_response(stream, method, req.get("abort_after", 0), told)
            except driver.Aborted:
                stream.reset()
                status, aborted = 200, True
            ended = driver.time.monotonic()
            self.run_state.book(self.src or driver.conn_name(conn), req, status, told, aborted, {
                "timestamp": begun, "path": path, "stream": bool(req.get("stream")), "model_name": told.model,
                "ttft_ms": None if told.content_at is None else (told.content_at - began) * 1e3, "duration_ms": (ended - began) * 1e3})
        if not self.plan.get("keepalive", True):
            self.conn.sock.close()
            self.conn = None


if __name__ == "__main__":
    driver.Client = H2Client
    sys.exit(driver.main())
