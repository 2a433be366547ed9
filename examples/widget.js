// What a page may do with the widget: hear its events, and count an activity through the platform's own API.
const widget = document.querySelector("streak-widget");
const events = document.querySelector("#events");
const answer = document.querySelector("#answer");

for (const name of ["streak-change", "streak-milestone", "streak-lapsed", "streak-state"]) {
  widget.addEventListener(name, ({ detail }) => {
    const line = document.createElement("li");
    const { state, milestone, event, streak } = detail;
    line.textContent = `${name}: ${state ?? milestone ?? [event, `${streak.current_streak} days`].filter(Boolean).join(", ")}`;
    events.prepend(line);
  });
}

document.querySelector("#solve").addEventListener("click", async () => {
  const { token, userId } = await (await fetch("/session")).json();
  const response = await fetch("/api/streak/update", {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({
      userId,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      requestId: crypto.randomUUID(),
    }),
  });
  const body = await response.json();
  answer.textContent = response.ok ? body.message : body.detail;
});
