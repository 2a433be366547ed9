// Signing in: e-mail and password, a code by e-mail, or an access token.

import { send } from "./api.js";
import { $, setText } from "./dom.js";
import { refusal } from "./session.js";

const BASE = "/dashboard/sign-in";

export class SignIn {
  /** @param onTokens  gets `access_token` and perhaps `refresh_token` */
  constructor(onTokens) {
    this.onTokens = onTokens;
    this.#form("password-form", (form) => this.#password(form.email.value, form.password.value));
    this.#form("code-form", (form) => this.#code(form.code.value));
    this.#form("token-form", (form) => this.#token(form.token.value.trim()));
    $("send-code").addEventListener("click", () => this.#attempt($("send-code"), () => this.#sendCode()));
    $("back").addEventListener("click", () => this.#showCode(false));
  }

  /** Begin, saying why. */
  show(reason) {
    setText($("sign-in-error"), reason ?? "");
    for (const form of ["password-form", "code-form", "token-form"]) $(form).reset();
    this.#showCode(false);
  }

  #form(id, submit) {
    $(id).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#attempt($(id).querySelector("[type=submit]"), () => submit($(id)));
    });
  }

  async #attempt(button, action) {
    setText($("sign-in-error"), "");
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      setText($("sign-in-error"), error.message);
    } finally {
      button.disabled = false;
    }
  }

  async #password(email, password) {
    await this.onTokens(await send(`${BASE}/password`, { method: "POST", body: { email, password } }));
  }

  async #sendCode() {
    if (!$("email").reportValidity()) return;
    await send(`${BASE}/code`, { method: "POST", body: { email: $("email").value } });
    setText($("code-email"), $("email").value);
    this.#showCode(true);
    $("code").focus();
  }

  async #code(code) {
    await this.onTokens(await send(`${BASE}/verify`, { method: "POST", body: { email: $("email").value, token: code.trim() } }));
  }

  async #token(token) {
    const reason = refusal(token);
    if (reason) {
      // Not even in the field: it would stay on the screen.
      $("token-form").reset();
      throw new Error(reason);
    }
    await this.onTokens({ access_token: token });
  }

  #showCode(shown) {
    $("code-form").hidden = !shown;
    $("password-form").hidden = shown;
    $("token-details").hidden = shown;
  }
}
