// A Node server that takes its listening socket from gracefork and drains on SIGTERM.
'use strict';

const http = require('node:http');

const fd = Number(process.argv[2] ?? 3);
let healthy = true;

const server = http.createServer((request, response) => {
  const { method, url } = request;
  if (method === 'POST' && url === '/echo') return request.pipe(response);
  if (method !== 'GET') return answer(response, 405, 'method not allowed');
  if (url === '/') return answer(response, 200, 'hello');
  if (url === '/health') {
    const status = healthy ? 'ok' : 'unhealthy';
    // With the blanks that all examples have: {"pid": 7, "status": "ok"}
    return answer(response, healthy ? 200 : 503, `{"pid": ${process.pid}, "status": "${status}"}`);
  }
  const slow = /^\/slow\/([0-9]+(?:\.[0-9]+)?)$/.exec(url);
  if (slow) return void setTimeout(() => answer(response, 200, 'slept'), Number(slow[1]) * 1000);
  answer(response, 404, 'not found');
});

// Longer than a load balancer keeps an idle connection, so that it closes first.
server.keepAliveTimeout = 75_000;

process.on('SIGTERM', () => {
  healthy = false;
  // Stops accepting, closes idle connections, waits for the requests in flight.
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});

server.listen({ fd });

function answer(response, status, body) {
  const headers = { 'content-length': Buffer.byteLength(body) };
  // A connection that stays open would keep the process from ending.
  if (!healthy) headers.connection = 'close';
  response.writeHead(status, headers);
  response.end(body);
}
