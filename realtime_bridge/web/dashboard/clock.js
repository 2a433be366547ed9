// The server's clock: a wrong clock of this machine must not make streaks lapse early or late.

let offset = 0;

/** Learn from an answer: its `now`, and when the question was sent (milliseconds by this machine). */
export function learn(serverNow, sentAt) {
  const server = Date.parse(serverNow);
  if (!Number.isFinite(server)) return;
  const measured = server - (sentAt + Date.now()) / 2;
  // Small differences are the network's, not the clock's.
  if (Math.abs(measured - offset) > 1000) offset = measured;
  else offset += (measured - offset) / 8;
}

/** Now, in epoch milliseconds. */
export const now = () => Date.now() + offset;
