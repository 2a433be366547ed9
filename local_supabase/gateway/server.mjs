// One origin for a local Supabase: /rest/v1 and /auth/v1 answered here, /realtime/v1 forwarded.
//
// The supervisor sends {"type": "provision" | "serve", ...config} and, with fault switches on, {"type": "fault", ...}.
// The process ends with its standard input, so it cannot outlive the supervisor.

import http from "node:http";
import { getRequestListener } from "@hono/node-server";

import { receive, send } from "./control.mjs";
import * as faults from "./faults.mjs";
import { createApp, provision, reloadOnNotify } from "./lite.mjs";
import { forwardRequest, forwardUpgrade } from "./proxy.mjs";

const CLOSED = { error: "requested path is invalid" };

function createServer(app, config) {
  const listener = getRequestListener(app.fetch);
  const server = http.createServer(async (request, response) => {
    if (request.url.startsWith("/realtime/v1/")) return forwardRequest(request, response, config.realtimePort);
    // Whatever else lite serves (its /_system answers without a key) is no part of a Supabase origin.
    if (!request.url.startsWith("/rest/v1") && !request.url.startsWith("/auth/v1")) {
      response.writeHead(404, { "content-type": "application/json" });
      return response.end(JSON.stringify(CLOSED));
    }
    if (config.faults && request.url.startsWith("/rest/v1") && (await faults.intercept(request, response))) return;
    return listener(request, response);
  });
  // Clients keep idle connections for 5 s and more; Node's own 5 s would close them at the moment of their reuse.
  server.keepAliveTimeout = 75_000;
  server.on("upgrade", (request, socket, head) => {
    const known = request.url.startsWith("/realtime/v1/") || request.url.startsWith("/socket/");
    if (known) return forwardUpgrade(request, socket, head, config.realtimePort);
    socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
  });
  return server;
}

async function serve(config) {
  const app = createApp(config);
  await app.connection.introspect({ useCache: true });
  await reloadOnNotify(app, config);
  const server = createServer(app, config);
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(config.port, "127.0.0.1", resolve);
  });
  return server.address().port;
}

async function answer(request) {
  if (request.type === "provision") return provision(request);
  if (request.type === "serve") return { port: await serve(request) };
  if (request.type === "fault") return faults.command(request);
  throw new Error(`unknown request: ${request.type}`);
}

process.on("unhandledRejection", (reason) => console.error("unhandled rejection:", reason));
send({ type: "loaded" });
for (let request = await receive(); request !== null; request = await receive()) {
  try {
    send({ id: request.id, ok: true, ...(await answer(request)) });
  } catch (error) {
    send({ id: request.id, ok: false, code: error.code ?? null, error: error.message });
  }
}
process.exit(0);
