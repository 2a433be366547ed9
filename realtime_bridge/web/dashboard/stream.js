// The live connection: a WebSocket that is opened again for ever, each time with a fresh ticket and from where it was.

const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 8_000;
const RESTART = 1012;
const CHECK_MS = 30_000;
const CLOCK_JUMP_MS = 5_000;
const SILENCE_MS = 600_000;

export class Stream {
  #socket = null;
  #last = null;
  #attempts = 0;
  #timer = 0;
  #run = 0;
  #stopped = true;
  #closed = null;
  #heard = 0;
  #patience = SILENCE_MS;
  #checked = [0, 0];

  /**
   * @param ticket  fetches a ticket
   * @param query   parameters of /ws
   * @param onMessage  gets every message
   * @param onState    "connecting", "open", "waiting" or "offline"
   * @param onDenied   gets the error that makes trying again useless
   */
  constructor({ ticket, query, onMessage, onState, onDenied }) {
    Object.assign(this, { ticket, query, onMessage, onState, onDenied });
  }

  start() {
    this.#stopped = false;
    this.#closed = new AbortController();
    const { signal } = this.#closed;
    addEventListener("online", () => this.renew(), { signal });
    addEventListener("offline", () => this.#offline(), { signal });
    this.#checked = [Date.now(), performance.now()];
    const check = setInterval(() => this.#check(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(check));
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    this.#last = null;
    this.#closed?.abort();
    this.#drop();
  }

  /** Open the connection anew at once: the present one may be dead without knowing it. */
  renew() {
    if (this.#stopped) return;
    this.#attempts = 0;
    this.#connect();
  }

  /** A browser cannot see that a silent socket is dead: after a sleep or a long silence it is replaced, and resumes. */
  #check() {
    const [wall, steady] = [Date.now(), performance.now()];
    const passed = steady - this.#checked[1];
    const jump = Math.abs(wall - this.#checked[0] - passed) > CLOCK_JUMP_MS || passed > 4 * CHECK_MS;
    this.#checked = [wall, steady];
    if (this.#socket && (jump || steady - this.#heard > this.#patience)) this.renew();
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#run += 1;
    this.#socket?.close();
    this.#socket = null;
  }

  #offline() {
    if (this.#stopped) return;
    this.#drop();
    this.onState("offline");
  }

  async #connect() {
    this.#drop();
    if (!navigator.onLine) {
      this.onState("offline");
      return;
    }
    const run = this.#run;
    this.onState("connecting");
    let ticket;
    try {
      ticket = await this.ticket();
    } catch (error) {
      if (run !== this.#run) return;
      if (error.denied) this.onDenied(error);
      else this.#later();
      return;
    }
    if (run !== this.#run) return;
    const query = new URLSearchParams({ ...this.query, ticket });
    if (this.#last) query.set("since", this.#last);
    const url = new URL(`/ws?${query}`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heard = performance.now();
    socket.onopen = () => {
      this.#attempts = 0;
      this.#heard = performance.now();
      // Jittered, so that dashboards that were opened together do not renew together.
      this.#patience = SILENCE_MS * (0.8 + Math.random() * 0.4);
      if (run === this.#run) this.onState("open");
    };
    socket.onmessage = (event) => {
      if (run === this.#run) this.#hear(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      if (run !== this.#run) return;
      this.#socket = null;
      this.#later(event.code === RESTART);
    };
  }

  #hear(message) {
    this.#heard = performance.now();
    // Messages about the bridge itself, and the first snapshots but the last, carry no place to resume from.
    if (message.type === "reset") this.#last = null;
    else if (message.type !== "state" && message.seq > 0) this.#last = `${message.epoch}:${message.seq}`;
    this.onMessage(message);
  }

  #later(soon = false) {
    this.onState("waiting");
    const pause = soon ? FIRST_PAUSE_MS : Math.min(FIRST_PAUSE_MS * 2 ** this.#attempts, LONGEST_PAUSE_MS);
    this.#attempts += 1;
    // Jittered, so that a thousand dashboards do not come back in the same instant.
    this.#timer = setTimeout(() => this.#connect(), pause * (0.5 + Math.random() / 2));
  }
}
