// A line chart of the last minutes. A hundred lines of SVG that take their colours from the page's own style, and draw
// one path a second: a library would bring more than it saves.

import { setAttribute, setText, svg } from "./dom.js";

const LEFT = 46;
const BOTTOM = 18;
const STEPS = [1, 2, 5];

export class LineChart {
  #size = null;

  /**
   * @param container  an element with a height
   * @param lines      how many lines
   * @param format     a value for people
   * @param least      the top of the scale is never lower
   */
  constructor(container, { lines, format, least }) {
    Object.assign(this, { container, format, least });
    this.grid = [0, 1, 2].map(() => svg("line", { class: "grid" }));
    this.labels = [0, 1, 2].map(() => svg("text", { class: "label", "text-anchor": "end" }));
    this.ends = ["start", "end"].map((anchor) => svg("text", { class: "label", "text-anchor": anchor }));
    this.area = svg("path", { class: "area" });
    this.paths = Array.from({ length: lines }, (_, index) => svg("path", { class: index ? "line second" : "line" }));
    this.root = svg("svg", { role: "img" }, ...this.grid, this.area, ...this.paths, ...this.labels, ...this.ends);
    container.append(this.root);
    new ResizeObserver(() => this.#measure()).observe(container);
  }

  /** Draw series of the same length, oldest first; null is a gap. `label` says what it shows to who does not see it. */
  draw(series, { label, from }) {
    this.last = [series, { label, from }];
    if (!this.#size) return;
    const { width, height } = this.#size;
    const top = ceiling(Math.max(this.least, ...series.flat().filter((value) => value !== null)));
    const x = (index) => LEFT + (index / Math.max(1, series[0].length - 1)) * (width - LEFT);
    const y = (value) => 4 + (1 - value / top) * (height - BOTTOM - 4);
    [0, 0.5, 1].forEach((part, index) => {
      const line = y(part * top).toFixed(1);
      for (const [name, value] of [["x1", LEFT], ["x2", width], ["y1", line], ["y2", line]]) setAttribute(this.grid[index], name, String(value));
      setAttribute(this.labels[index], "x", String(LEFT - 8));
      setAttribute(this.labels[index], "y", String(Number(line) + 4));
      setText(this.labels[index], this.format(part * top));
    });
    this.ends.forEach((text, index) => {
      setAttribute(text, "x", String(index ? width : LEFT));
      setAttribute(text, "y", String(height - 2));
      setText(text, index ? "now" : from);
    });
    series.forEach((values, index) => setAttribute(this.paths[index], "d", lineOf(values, x, y)));
    setAttribute(this.area, "d", areaOf(series[0], x, y, height - BOTTOM));
    setAttribute(this.root, "aria-label", label);
  }

  #measure() {
    const { clientWidth, clientHeight } = this.container;
    const style = getComputedStyle(this.container);
    const width = clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
    const height = clientHeight - Number.parseFloat(style.paddingTop) - Number.parseFloat(style.paddingBottom);
    if (width < 60 || height < 40) return;
    this.#size = { width, height };
    this.root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (this.last) this.draw(...this.last);
  }
}

/** The next round number: half of it must be one, too. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = STEPS.find((one) => one * power >= value) ?? 10;
  return step * power;
}

function lineOf(values, x, y) {
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

/** What lies under a line, gaps left open. */
function areaOf(values, x, y, floor) {
  let path = "";
  let start = -1;
  for (let index = 0; index <= values.length; index += 1) {
    const known = index < values.length && values[index] !== null;
    if (known && start < 0) start = index;
    if (known || start < 0) continue;
    const line = values.slice(start, index).map((value, step) => `L${x(start + step).toFixed(1)} ${y(value).toFixed(1)}`);
    path += `M${x(start).toFixed(1)} ${floor}${line.join("")}L${x(index - 1).toFixed(1)} ${floor}Z`;
    start = -1;
  }
  return path;
}
