// Light, dark, or as the system says.

import { $, setText } from "./dom.js";

const KEY = "streaks.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SHOWN = { auto: ["◐", "automatic"], light: ["☀", "light"], dark: ["☾", "dark"] };

export function setUpTheme() {
  let theme = localStorage.getItem(KEY);
  if (!(theme in NEXT)) theme = "auto";
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    setText($("theme-icon"), SHOWN[theme][0]);
    $("theme").setAttribute("aria-label", `Theme: ${SHOWN[theme][1]}`);
  };
  $("theme").addEventListener("click", () => {
    theme = NEXT[theme];
    localStorage.setItem(KEY, theme);
    show();
  });
  show();
}
