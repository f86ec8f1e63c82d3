/* An https server in node that answers as an OpenAI-compatible one does. usage: node tls_node.js PORT KEY CERT [h2] */
'use strict';
const fs = require('fs'), https = require('https'), http2 = require('http2');

const [port, key, cert, h2] = process.argv.slice(2);
const words = (doc) => (doc.messages || []).map((m) => m.content).join(' ').split(/\s+/).filter(Boolean).length;
const usage = (doc, n) => ({ prompt_tokens: words(doc), completion_tokens: n, total_tokens: words(doc) + n, prompt_tokens_details: { cached_tokens: words(doc) >> 1 } });
const base = (doc) => ({ id: 'x', object: 'chat.completion', created: 1700000000, model: doc.model });

function whole(res, status, doc) {
	const body = JSON.stringify(doc);
	res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
	res.end(body);
}

/* As node programs do it: one write per event, now and then a pause for the socket. */
async function stream(res, doc, n) {
	res.writeHead(200, { 'content-type': 'text/event-stream' });
	const send = (o) => res.write(`data: ${typeof o === 'string' ? o : JSON.stringify(o)}\n\n`);
	send({ ...base(doc), choices: [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }] });
	for (let i = 0; i < n; i++) {
		const ok = send({ ...base(doc), choices: [{ index: 0, delta: { content: ' tok' + i % 7 }, finish_reason: i === n - 1 ? 'length' : null }] });
		if (!ok)
			await new Promise((go) => res.once('drain', go));
		else if (i % 64 === 0)
			await new Promise(setImmediate);
	}
	if (doc.stream_options && doc.stream_options.include_usage)
		send({ ...base(doc), choices: [], usage: usage(doc, n) });
	send('[DONE]');
	res.end();
}

const create = h2 ? http2.createSecureServer : https.createServer;
create({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), allowHTTP1: true }, (req, res) => {
	const pieces = [];
	req.on('data', (d) => pieces.push(d));
	req.on('end', () => {
		if (req.url === '/health')
			return whole(res, 200, {});
		if (req.url !== '/v1/chat/completions')
			return whole(res, 404, { error: { message: 'not found' } });
		let doc;
		try {
			doc = JSON.parse(Buffer.concat(pieces).toString());
		} catch (e) {
			return whole(res, 400, { error: { message: 'not JSON' } });
		}
		const n = doc.max_tokens || 16;
		if (doc.stream)
			return stream(res, doc, n);
		whole(res, 200, { ...base(doc), choices: [{ index: 0, message: { role: 'assistant', content: ' tok'.repeat(n) }, finish_reason: 'length' }], usage: usage(doc, n) });
	});
}).listen(Number(port), '127.0.0.1');
