import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useStreakOnSolve, useUserStreak } from "./useStreak.js";

const root = document.querySelector("#root");
const { bridgeUrl } = root.dataset;

async function session() {
  return (await fetch("/session")).json();
}

// Outside the components: whatever follows with the same function shares one connection.
async function tokenProvider() {
  return (await session()).token;
}

async function send(activity) {
  const headers = { Authorization: `Bearer ${await tokenProvider()}`, "Content-Type": "application/json" };
  return fetch("/api/streak/update", { method: "POST", headers, body: JSON.stringify(activity) });
}

function ProblemPage({ userId }) {
  const { streak, loading, state } = useUserStreak(userId, { bridgeUrl, tokenProvider });
  const { triggerStreakUpdate, updating, result, error } = useStreakOnSolve(userId, { send });
  return (
    <>
      <p id="summary">
        {loading ? "Loading…" : `🔥 ${streak?.current_streak ?? 0} day streak, best ${streak?.longest_streak ?? 0} (${state})`}
        {streak?.current_streak > 0 && !streak.is_active_today && " ⚠️ Solve a problem today to keep it!"}
      </p>
      <p>
        <button type="button" id="solve" disabled={updating} onClick={triggerStreakUpdate}>
          Mark as solved
        </button>{" "}
        <span id="answer" role="status">
          {error ?? result?.message}
        </span>
      </p>
    </>
  );
}

function App() {
  const [userId, setUserId] = useState(null);
  const [shown, setShown] = useState(true);
  const [heard, setHeard] = useState([]);
  useEffect(() => {
    session().then((answer) => setUserId(answer.userId));
  }, []);
  if (userId === null) return <p>Loading…</p>;
  const hear = (event) => setHeard((before) => [`${event.type}: ${event.detail.event ?? ""}`, ...before]);
  return (
    <>
      <h1>Two Sum</h1>
      {shown && (
        <>
          <streak-widget bridge-url={bridgeUrl} user-id={userId} tokenProvider={tokenProvider} onstreak-change={hear} />
          <ProblemPage userId={userId} />
        </>
      )}
      <p>
        <button type="button" id="toggle" onClick={() => setShown(!shown)}>
          {shown ? "Leave the page" : "Come back"}
        </button>
      </p>
      <ol id="events">
        {heard.map((line, index) => (
          <li key={heard.length - index}>{line}</li>
        ))}
      </ol>
    </>
  );
}

createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
