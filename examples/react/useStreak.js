// The original's hooks over the bridge: `streak-widget` is the file that the bridge serves at /streak-widget.js.
import { useCallback, useEffect, useRef, useState } from "react";
import { followStreak } from "streak-widget";

const NOTHING = { streak: null, state: "connecting", code: null, event: null, nextMilestone: null };

/**
 * A user's streak, live. Pass a `tokenProvider` that stays the same (defined outside, or by useCallback): all that
 * follow with it share one connection.
 *
 * @param {string} [userId] the token's user by default
 * @param {{ bridgeUrl: string, tokenProvider: () => Promise<string> }} options
 */
export function useUserStreak(userId, { bridgeUrl, tokenProvider }) {
  const [known, setKnown] = useState({ snapshot: NOTHING });
  const follower = useRef(null);
  useEffect(() => {
    const options = { bridgeUrl, userId, tokenProvider };
    follower.current = followStreak(options, (snapshot) => setKnown({ userId, snapshot }));
    return () => follower.current.close();
  }, [bridgeUrl, userId, tokenProvider]);
  // After a change of user, nobody sees the other's streak for as much as one frame.
  const { streak, state, code, event, nextMilestone } = known.userId === userId ? known.snapshot : NOTHING;
  const refresh = useCallback(() => follower.current?.reconnect(), []);
  return { streak, state, event, nextMilestone, loading: streak === null && state === "connecting", error: code, refresh };
}

/**
 * Counts a solved problem: call `triggerStreakUpdate()` after the solution is saved. The answer comes back, and every
 * follower hears of it through the bridge. A retry carries the same request id, so it never counts twice.
 *
 * @param {string} userId
 * @param {{ send: (activity: object) => Promise<Response> }} options `send` posts to your own backend, or to
 *   `/api/streak/update` of `streaks serve --self-update` with the user's token
 */
export function useStreakOnSolve(userId, { send }) {
  const [status, setStatus] = useState({ updating: false, result: null, error: null });
  const triggerStreakUpdate = useCallback(async () => {
    setStatus({ updating: true, result: null, error: null });
    const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const activity = { userId, timezone, requestId: crypto.randomUUID() };
    try {
      const response = await retried(() => send(activity));
      const body = await response.json();
      if (!response.ok) throw new Error(body.detail ?? `HTTP ${response.status}`);
      setStatus({ updating: false, result: body, error: null });
      return body;
    } catch (error) {
      setStatus({ updating: false, result: null, error: error.message }); // the solution is saved all the same
      return null;
    }
  }, [userId, send]);
  return { ...status, triggerStreakUpdate };
}

async function retried(send, pauses = [50, 100, 200]) {
  for (const pause of pauses) {
    const response = await send().catch(() => null);
    if (response && response.status < 500 && response.status !== 409) return response;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return send();
}
