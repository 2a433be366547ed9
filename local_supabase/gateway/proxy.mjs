// Forwards /realtime/v1 to the stand-in for Realtime, byte for byte.

import http from "node:http";
import net from "node:net";

/** Forwards a plain HTTP request. */
export function forwardRequest(request, response, port) {
  const upstream = http.request(
    { host: "127.0.0.1", port, method: request.method, path: request.url, headers: request.headers },
    (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    },
  );
  upstream.on("error", () => {
    if (response.headersSent) return response.destroy();
    response.writeHead(502, { "content-type": "application/json" });
    response.end('{"message":"Realtime does not answer"}');
  });
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
}

/** Forwards an upgrade to a websocket: the head as it came, then both directions until one side ends. */
export function forwardUpgrade(request, socket, head, port) {
  const upstream = net.connect({ host: "127.0.0.1", port, noDelay: true });
  socket.setNoDelay(true);
  upstream.on("connect", () => {
    upstream.write(rawHead(request));
    if (head.length) upstream.write(head);
    socket.pipe(upstream).pipe(socket);
  });
  // A reset must stay a reset: clients tell an aborted connection from one that ended.
  const abort = (other) => () => (other.resetAndDestroy ? other.resetAndDestroy() : other.destroy());
  upstream.on("error", abort(socket));
  socket.on("error", abort(upstream));
  upstream.on("close", () => socket.destroySoon());
  socket.on("close", () => upstream.destroySoon());
}

function rawHead(request) {
  const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}
