// Faults of REST on request: each holds for a number of requests or for a time, and for the paths that hold a text.

const kinds = new Set(["error", "delay", "hang", "lose_answer"]);
let active = [];

/** Adds a fault, or lifts all. Throws on a kind that does not exist. */
export function command({ kind, count = null, seconds = null, path = "", ...rest }) {
  if (kind === "restore") {
    for (const fault of active) for (const release of fault.held) release();
    active = [];
    return;
  }
  if (!kinds.has(kind)) throw new Error(`unknown fault: ${kind}`);
  const until = seconds === null ? Infinity : performance.now() + seconds * 1000;
  active.push({ kind, left: count ?? Infinity, until, path, held: [], ...rest });
}

function due(url) {
  active = active.filter((fault) => (fault.left > 0 && performance.now() < fault.until) || fault.held.length);
  const hits = active.filter((fault) => fault.left > 0 && performance.now() < fault.until && url.includes(fault.path));
  for (const fault of hits) fault.left -= 1;
  return hits;
}

/** Applies what is due. True when the request is dealt with and must not reach the app. */
export async function intercept(request, response) {
  for (const fault of due(request.url)) {
    if (fault.kind === "delay") await new Promise((resolve) => setTimeout(resolve, fault.delay * 1000));
    if (fault.kind === "hang") {
      await new Promise((resolve) => {
        fault.held.push(resolve);
        request.socket.once("close", resolve);
      });
      request.socket.destroy();
      return true;
    }
    if (fault.kind === "lose_answer") loseAnswer(request, response);
    if (fault.kind === "error") {
      response.writeHead(fault.status, { "content-type": "application/json" });
      response.end(JSON.stringify({ code: null, details: null, hint: null, message: "fault switch" }));
      return true;
    }
  }
  return false;
}

// The app does its work, and the connection breaks before the first byte of its answer.
function loseAnswer(request, response) {
  response.writeHead = response.write = response.end = () => {
    request.socket.destroy();
    return response;
  };
}
