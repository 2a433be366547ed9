// Drives the official @supabase/realtime-js from outside: a JSON command a line on stdin, a JSON event a line on stdout.
//
//   node realtime_client.mjs FOLDER-WITH-node_modules SOCKET-URL
//
// The key comes in the environment (SUPABASE_KEY), for a command line is public.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [root, url] = process.argv.slice(2);
const { RealtimeClient } = createRequire(join(root, "package.json"))("@supabase/realtime-js");

const client = new RealtimeClient(url, { params: { apikey: process.env.SUPABASE_KEY } });
const channels = new Map();
const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

const commands = {
  join({ topic, bindings = [], config = {}, token }) {
    if (token) client.setAuth(token);
    const channel = client.channel(topic, { config });
    bindings.forEach((binding, index) =>
      channel.on("postgres_changes", binding, (change) => say({ kind: "change", topic, index, change })),
    );
    channel.on("system", {}, (payload) => say({ kind: "system", topic, payload }));
    channel.on("broadcast", { event: "*" }, (message) => say({ kind: "broadcast", topic, message }));
    channel.on("presence", { event: "sync" }, () => say({ kind: "presence", topic, state: channel.presenceState() }));
    channel.subscribe((status, error) => say({ kind: "status", topic, status, error: error?.message ?? null }));
    channels.set(topic, channel);
  },
  async broadcast({ topic, event, payload }) {
    const outcome = await channels.get(topic).send({ type: "broadcast", event, payload });
    say({ kind: "sent", topic, outcome });
  },
  async track({ topic, payload }) {
    say({ kind: "tracked", topic, outcome: await channels.get(topic).track(payload) });
  },
  async leave({ topic }) {
    say({ kind: "left", topic, outcome: await channels.get(topic).unsubscribe() });
  },
  quit() {
    client.disconnect();
    process.exit(0);
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { command, ...rest } = JSON.parse(line);
    commands[command](rest);
  })
  .on("close", () => process.exit(0));
