// Calls what the original's client calls, through the official @supabase/supabase-js, and prints each answer as JSON.
//
//   node original_client.mjs FOLDER-WITH-node_modules SUPABASE-URL USER-ID
//
// The key comes in the environment (SUPABASE_KEY), for a command line is public.

import { createRequire } from "node:module";
import { join } from "node:path";

const [root, url, user] = process.argv.slice(2);
const { createClient } = createRequire(join(root, "package.json"))("@supabase/supabase-js");
const client = createClient(url, process.env.SUPABASE_KEY, { auth: { persistSession: false, autoRefreshToken: false } });

const answers = [
  await client.rpc("update_user_streak_atomic", { p_user_id: user, p_timezone: "UTC", p_request_id: "request-1" }),
  await client.rpc("get_user_streak", { p_user_id: user }),
  await client.rpc("get_streak_leaderboard", { p_limit: 1000, p_offset: 0, p_order_by: "longest_streak" }),
  await client.from("streak_history").select("*").eq("user_id", user),
];
console.log(JSON.stringify(answers.map(({ data, error }) => ({ data, error }))));
process.exit(0); // the client's Realtime part would keep the process alive
