// Finding a user by the beginning of the id.

import { $, el, setAttribute } from "./dom.js";

const QUIET_MS = 150;
const WHOLE = /^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i;

export class Search {
  #timer = 0;
  #run = 0;
  #chosen = -1;

  /**
   * @param find  users by prefix
   * @param open  opens a user
   */
  constructor(find, open) {
    Object.assign(this, { find, open });
    this.input = $("search-text");
    this.list = $("search-found");
    this.input.addEventListener("input", () => this.#changed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => setTimeout(() => this.#close(), 150));
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  #changed() {
    clearTimeout(this.#timer);
    const text = this.input.value.trim().toLowerCase();
    this.#run += 1;
    if (!text) {
      this.#close();
      return;
    }
    this.#timer = setTimeout(() => this.#look(text, this.#run), QUIET_MS);
  }

  async #look(text, run) {
    let found = [];
    let note = "No user with a streak has an id that begins so.";
    if (!/^[0-9a-f-]+$/.test(text)) note = "Ids are made of the digits 0-9 and a-f.";
    else {
      try {
        found = (await this.find(text)).users;
      } catch (error) {
        note = error.message;
      }
    }
    if (run !== this.#run) return;
    this.#chosen = found.length === 1 ? 0 : -1;
    const items = found.map((id, index) => el("li", { role: "option", id: `found-${index}`, "data-user": id, text: id, on: { mousedown: () => this.#go(id) } }));
    this.list.replaceChildren(...(items.length ? items : [el("li", { class: "none muted", role: "option", "aria-disabled": "true", text: note })]));
    this.list.hidden = false;
    setAttribute(this.input, "aria-expanded", "true");
    this.#mark();
  }

  #key(event) {
    const options = [...this.list.querySelectorAll("[data-user]")];
    if (event.key === "Escape") this.#close();
    if (!options.length || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    this.#chosen = (this.#chosen + step + options.length) % options.length;
    this.#mark();
  }

  #mark() {
    this.list.querySelectorAll("[data-user]").forEach((option, index) => setAttribute(option, "aria-selected", String(index === this.#chosen)));
    if (this.#chosen >= 0) setAttribute(this.input, "aria-activedescendant", `found-${this.#chosen}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  #submit() {
    const chosen = this.list.querySelector("[aria-selected=true]")?.dataset.user;
    const text = this.input.value.trim().toLowerCase();
    if (chosen) this.#go(chosen);
    else if (WHOLE.test(text)) this.#go(text);
  }

  #go(id) {
    this.input.value = "";
    this.#close();
    this.open(id);
  }

  #close() {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.list.hidden = true;
    setAttribute(this.input, "aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
