// The channel to the supervisor: JSON lines, requests on standard input and answers on standard output.
//
// Secrets come this way because arguments and the environment are visible to other programs of the machine.

import { createInterface } from "node:readline";

// Standard output belongs to the channel, so whatever a library prints goes to the log.
console.log = console.info = console.debug = console.error;

const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })[Symbol.asyncIterator]();

/** The next request, or null when the supervisor is gone. */
export async function receive() {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
}

export function send(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
