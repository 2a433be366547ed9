// The live connection: a WebSocket that is opened again for ever, each time with a fresh ticket and from where it was.

const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 8_000;
const RESTART = 1012;

export class Stream {
  #socket = null;
  #last = null;
  #attempts = 0;
  #timer = 0;
  #run = 0;
  #stopped = true;

  /**
   * @param ticket  fetches a ticket
   * @param query   parameters of /ws
   * @param onMessage  gets every message
   * @param onState    "connecting", "open", "waiting" or "offline"
   * @param onDenied   gets the error that makes trying again useless
   */
  constructor({ ticket, query, onMessage, onState, onDenied }) {
    Object.assign(this, { ticket, query, onMessage, onState, onDenied });
    addEventListener("online", () => this.renew());
    addEventListener("offline", () => this.#offline());
  }

  start() {
    this.#stopped = false;
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    this.#last = null;
    this.#drop();
  }

  /** Open the connection anew at once: the present one may be dead without knowing it. */
  renew() {
    if (this.#stopped) return;
    this.#attempts = 0;
    this.#connect();
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
    socket.onopen = () => {
      this.#attempts = 0;
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
    // Messages about the bridge itself carry no place in the stream.
    if (message.type !== "state") this.#last = `${message.epoch}:${message.seq}`;
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
