#!/usr/bin/env python3
"""A router before prefill and decode engines, as vLLM's disaggregated proxy: each request goes to the first with one token to
make, then as it is to the second, whose answer is passed on.

usage: router.py PORT PREFILL-PORT DECODE-PORT
"""
import http.client
import http.server
import json
import sys


class Router(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def engine(self, port, body):
        c = http.client.HTTPConnection("127.0.0.1", port)
        c.request("POST", self.path, body, {"content-type": "application/json"})
        return c, c.getresponse()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        first = json.loads(body)
        first.update(max_tokens=1, stream=False)
        first.pop("stream_options", None)
        c, r = self.engine(int(sys.argv[2]), json.dumps(first))
        r.read()
        c.close()
        c, r = self.engine(int(sys.argv[3]), body)
        answer = r.read()
        c.close()
        self.send_response(r.status)
        self.send_header("content-type", r.getheader("content-type"))
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Router).serve_forever()
