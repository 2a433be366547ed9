// One origin for a local Supabase: /rest/v1 and /auth/v1 answered here, /realtime/v1 forwarded.
//
// The supervisor sends {"type": "provision" | "serve", ...config} and, with fault switches on, {"type": "fault", ...}.
// The process ends with its standard input, so it cannot outlive the supervisor.

import http from "node:http";
import { getRequestListener } from "@hono/node-server";

import { receive, send } from "./control.mjs";
import * as faults from "./faults.mjs";
import { Backend, provision } from "./lite.mjs";
import { forwardRequest, forwardUpgrade } from "./proxy.mjs";

const CLOSED = { error: "requested path is invalid" };

/** REST and Auth, and what is being answered. */
class Api {
  #config;
  #backend;
  #back = Promise.resolve();
  #open = new Set();
  #listener = getRequestListener((request, env) => this.#backend.fetch(request, env));

  constructor(config) {
    this.#config = config;
    this.#backend = this.#connect(undefined);
  }

  #connect(schema) {
    return new Backend(this.#config, schema, () => this.revive());
  }

  start() {
    return this.#backend.start();
  }

  /** Fulfilled when requests are answered again after a loss of PostgreSQL. */
  back() {
    return this.#back;
  }

  handle(request, response) {
    if (!this.#backend.running) return giveUp(response, 503, "PGRST001", "No connection to the database");
    const late = setTimeout(() => giveUp(response, 504, "PGRST003", "Timed out"), this.#config.answerMs);
    this.#open.add(response);
    response.on("close", () => {
      clearTimeout(late);
      this.#open.delete(response);
    });
    return this.#listener(request, response);
  }

  /**
   * Starts over with new connections when PostgreSQL went away. The driver (postgres 3.4) then leaves queries of reserved
   * connections waiting for ever, or throws outside of any query.
   */
  revive() {
    this.#backend.abandon();
    this.#backend = this.#connect(this.#backend.schema);
    this.#back = this.#backend.startWhenPossible();
    for (const response of this.#open) giveUp(response, 503, "PGRST001", "Database connection lost");
  }
}

function giveUp(response, status, code, message) {
  if (response.headersSent) response.destroy();
  else answerJson(response, status, { code, details: null, hint: null, message });
}

function answerJson(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

/**
 * The API that a request belongs to, or null. The path is read as whoever answers reads it, so that neither dots nor a
 * longer name lead past the origin's own.
 */
function apiOf(url) {
  if (!url.startsWith("/") || !URL.canParse(url, "http://localhost")) return null;
  const { host, pathname } = new URL(url, "http://localhost");
  const inside = (prefix) => pathname === prefix || pathname.startsWith(`${prefix}/`);
  return host === "localhost" ? (["/rest/v1", "/auth/v1"].find(inside) ?? null) : null;
}

function createServer(api, config) {
  const server = http.createServer(async (request, response) => {
    if (request.url.startsWith("/realtime/v1/")) {
      // Broadcasts over HTTP fail as REST does; the socket of Realtime has faults of its own.
      const broadcast = request.url.startsWith("/realtime/v1/api/");
      if (config.faults && broadcast && (await faults.intercept(request, response))) return;
      return forwardRequest(request, response, config.realtimePort);
    }
    // Whatever else lite serves (its /_system answers without a key) is no part of a Supabase origin.
    const prefix = apiOf(request.url);
    if (prefix === null) return answerJson(response, 404, CLOSED);
    if (config.faults && prefix === "/rest/v1" && (await faults.intercept(request, response))) return;
    return api.handle(request, response);
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

let api;

async function serve(config) {
  api = new Api(config);
  await api.start();
  process.on("uncaughtException", (error) => {
    console.error("uncaught:", error);
    if (!/node_modules.postgres.src.connection/.test(error.stack)) process.exit(1);
    api.revive();
  });
  const server = createServer(api, config);
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(config.port, "127.0.0.1", resolve);
  });
  return server.address().port;
}

async function answer(request) {
  if (request.type === "provision") return provision(request);
  if (request.type === "serve") return { port: await serve(request) };
  if (request.type === "await_database") return api.back();
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
