// Values under the pointer. Without scripts the plots stay as they are.
"use strict";
const STEPS = {
  "µs": [[1e6, "s"], [1e3, "ms"], [1, "µs"]],
  bytes: [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "bytes"]],
};
const number = (value) => {
  const digits = value < 1000 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 };
  return value.toLocaleString("en", digits);
};
const human = (value, unit) => {
  if (unit === "/s") return number(value) + unit;
  const steps = STEPS[unit] ?? [[1, unit]];
  const [size, name] = steps.find(([least]) => value >= least) ?? steps.at(-1);
  return `${number(value / size)} ${name}`.trim();
};
const time = (seconds) => {
  const whole = Math.floor(seconds);
  const two = (count) => String(count).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};
// Points are in order of time.
const nearest = (points, at) => {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - points[low - 1][0] < points[low][0] - at ? points[low - 1] : points[low];
};
const add = (parent, tag, className, text = "") => {
  const child = parent.appendChild(document.createElement(tag));
  child.className = className;
  child.textContent = text;
  return child;
};
for (const plot of document.querySelectorAll(".plot")) {
  const data = JSON.parse(plot.querySelector("script").textContent);
  const [rule, told] = [add(plot, "div", "rule"), add(plot, "div", "told")];
  const hide = () => (rule.hidden = told.hidden = true);
  hide();
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const scale = box.width / data.size[0];
    const x = event.clientX - box.left;
    const at = ((x / scale - data.left) / (data.right - data.left)) * data.end;
    if (at < 0 || at > data.end) return hide();
    rule.hidden = told.hidden = false;
    const [top, height] = [data.top * scale, (data.bottom - data.top) * scale];
    rule.style.cssText = `left:${x}px;top:${top}px;height:${height}px`;
    told.textContent = "";
    add(told, "div", "", time(at));
    for (const { name, colour, points } of data.curves) {
      const value = nearest(points, at)[1];
      const line = add(told, "div", "");
      add(line, "i", `c${colour}`);
      line.append(`${name} ${value === null ? "–" : human(value, data.unit)}`);
    }
    const left = x > box.width / 2 ? x - told.offsetWidth - 12 : x + 12;
    told.style.cssText = `left:${left}px;top:${top + 4}px`;
  });
}
