"""An ASGI app that answers in the shapes of the Python model servers; uvicorn serves it on their real byte path.

Tokens are words: the prompt's are counted, the answer has as many as asked for. The body's `style` picks a dialect's
way of writing: "vllm" (compact, UTF-8), "sglang" (nulls written out, cumulative counts beside), "spaced" (blanks after
colons and commas, ASCII only), "trt" (a blank before the newline of the first event).
"""
import gzip
import json
import uuid

WORDS = ("The", " weir", " holds", " the", " water", " for", " a", " moment", ".", " Über", " 川", " 🌊", ' "usage"', "\n", " back\\slash", "")
JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


def text_of(value):
    """The text inside a prompt of any API."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(text_of(v) for v in value)
    if isinstance(value, dict):
        return text_of(value.get("content") or value.get("text") or "")
    return ""


class Answer:
    """One request being answered."""

    def __init__(self, send, doc, fields):
        self.send, self.doc, self.fields = send, doc, fields
        self.style = doc.get("style", "vllm")
        self.tokens = doc.get("max_tokens") or doc.get("max_output_tokens") or 16
        self.prompt = len(text_of(doc.get("messages") or doc.get("prompt") or doc.get("input")).split())
        self.cached = self.prompt // 2
        self.model = doc.get("model", "asgi")
        self.id = uuid.uuid4().hex

    def dumps(self, obj):
        if self.style == "spaced":
            return json.dumps(obj).encode()
        return json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()

    def usage(self, made):
        u = {"prompt_tokens": self.prompt, "total_tokens": self.prompt + made, "completion_tokens": made,
             "prompt_tokens_details": {"cached_tokens": self.cached}}
        if self.style == "sglang":
            u["reasoning_tokens"] = 0
        return u

    async def whole(self, status, obj):
        body, head = self.dumps(obj), list(JSON)
        if b"gzip" in self.fields.get(b"accept-encoding", b""):
            body = gzip.compress(body)
            head.append((b"content-encoding", b"gzip"))
        head.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})

    async def begin(self):
        await self.send({"type": "http.response.start", "status": 200, "headers": SSE})

    async def event(self, obj, name=None, end=b"\n\n"):
        line = b"data: " + (obj if isinstance(obj, bytes) else self.dumps(obj)) + end
        if name:
            line = b"event: " + name.encode() + b"\n" + line
        await self.send({"type": "http.response.body", "body": line, "more_body": True})

    async def end(self):
        await self.send({"type": "http.response.body", "body": b""})

    def chunk(self, delta, finish=None, **more):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        out = {"id": "chatcmpl-" + self.id, "object": "chat.completion.chunk", "created": 1700000000, "model": self.model, "choices": [choice]}
        if self.style == "sglang":
            out["usage"] = None
        out.update(more)
        return out

    async def chat(self):
        options = self.doc.get("stream_options") or {}
        if not self.doc.get("stream"):
            text = "".join(WORDS[i % len(WORDS)] for i in range(self.tokens))
            await self.whole(200, {"id": "chatcmpl-" + self.id, "object": "chat.completion", "created": 1700000000, "model": self.model,
                                   "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "tool_calls": []},
                                                "logprobs": None, "finish_reason": "length", "stop_reason": None}],
                                   "usage": self.usage(self.tokens), "kv_transfer_params": None})
            return
        await self.begin()
        await self.event(self.chunk({"role": "assistant", "content": ""}), end=b" \n\n" if self.style == "trt" else b"\n\n")
        for i in range(self.tokens):
            more = {"usage": self.usage(i + 1)} if options.get("continuous_usage_stats") else {}
            if self.doc.get("fault") and i == self.tokens // 2:
                await self.event({"error": {"message": "the engine died", "type": "InternalServerError", "param": None, "code": 500}})
                await self.event(b"[DONE]")
                await self.end()
                return
            await self.event(self.chunk({"content": WORDS[i % len(WORDS)]}, "length" if i == self.tokens - 1 else None, **more))
        if options.get("include_usage"):
            await self.event({**self.chunk({}), "choices": [], "usage": self.usage(self.tokens)})
        await self.event(b"[DONE]")
        await self.end()

    async def responses(self):
        done = {"id": "resp_" + self.id, "object": "response", "status": "completed", "model": self.model,
                "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "The weir."}]}],
                "usage": {"input_tokens": self.prompt, "input_tokens_details": {"cached_tokens": self.cached}, "output_tokens": self.tokens,
                          "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": self.prompt + self.tokens}}
        if not self.doc.get("stream"):
            await self.whole(200, done)
            return
        await self.begin()
        await self.event({"type": "response.created", "response": {**done, "status": "in_progress", "usage": None}}, "response.created")
        for i in range(self.tokens):
            await self.event({"type": "response.output_text.delta", "output_index": 0, "delta": WORDS[i % len(WORDS)]}, "response.output_text.delta")
        await self.event({"type": "response.completed", "response": done}, "response.completed")
        await self.end()

    async def messages(self):
        usage = {"input_tokens": self.prompt - self.cached, "cache_creation_input_tokens": 0, "cache_read_input_tokens": self.cached}
        base = {"id": "msg_" + self.id, "type": "message", "role": "assistant", "model": self.model, "stop_reason": None}
        if not self.doc.get("stream"):
            await self.whole(200, {**base, "content": [{"type": "text", "text": "The weir."}], "stop_reason": "max_tokens",
                                   "usage": {**usage, "output_tokens": self.tokens}})
            return
        await self.begin()
        await self.event({"type": "message_start", "message": {**base, "content": [], "usage": {**usage, "output_tokens": 0}}}, "message_start")
        await self.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start")
        for i in range(self.tokens):
            await self.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS[i % len(WORDS)]}},
                             "content_block_delta")
        await self.event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        await self.event({"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
                          "usage": {"output_tokens": self.tokens}}, "message_delta")
        await self.event({"type": "message_stop"}, "message_stop")
        await self.end()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        got = await receive()
        body += got.get("body", b"")
        more = got.get("more_body", False)
    answer = Answer(send, {}, dict(scope["headers"]))
    if scope["path"] == "/health":
        await answer.whole(200, {})
        return
    try:
        answer = Answer(send, json.loads(body), dict(scope["headers"]))
    except (ValueError, AttributeError):
        await answer.whole(400, {"error": {"message": "not JSON", "type": "BadRequestError", "param": None, "code": 400}})
        return
    run = {"/v1/chat/completions": answer.chat, "/v1/responses": answer.responses, "/v1/messages": answer.messages}.get(scope["path"])
    if run:
        await run()
    else:
        await answer.whole(404, {"detail": "Not Found"})
