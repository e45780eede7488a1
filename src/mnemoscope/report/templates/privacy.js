"use strict";
// Shared by the scripts of the page: the data, and the threshold that the reader chose.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const whole = (value) => value.toLocaleString("en-US");
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits).replace("-", "−")} %`;
const points = (share) => `${share > 0 ? "+" : ""}${(100 * share).toFixed(1).replace("-", "−")} points`;
const threshold = {
  tau: data.percentiles ? data.percentiles.steps[data.percentiles.own].tau : NaN,
  watchers: [],
  set(tau) {
    this.tau = tau;
    for (const tell of this.watchers) tell(tau);
  },
};
// By set and clip: shows its pair in the gallery, where that is in the page.
const pairs = new Map();

(() => {
  const form = byId("threshold"), found = data.percentiles;
  if (!form || !found) return;
  const slider = byId("percentile"), line = byId("live-tau"), box = line && line.closest("[data-low]");
  slider.max = found.steps.length - 1;

  function say(name, value, interval) {
    const place = form.querySelector(`[data-now="${name}"]`);
    place.textContent = value;
    if (!interval) return;
    const small = document.createElement("small");
    small.textContent = interval;
    place.append(small);
  }

  function moveLine(tau) {
    if (!line) return;
    const { low, high, left, right } = box.dataset, own = found.steps[found.own].tau;
    line.setAttribute("transform", `translate(${((tau - own) / (high - low)) * (right - left)} 0)`);
    line.style.visibility = tau >= low && tau <= high ? "visible" : "hidden";
  }

  const rows = [...document.querySelectorAll("tr[data-rung]")].map((row) => {
    const cell = row.cells[2];
    return { cell, rung: found.rungs.indexOf(row.dataset.rung), audited: [...cell.childNodes].map((node) => node.cloneNode(true)) };
  });
  function ladder(step) {
    for (const { cell, rung, audited } of rows) {
      if (step === found.steps[found.own] || rung < 0) { cell.replaceChildren(...audited); continue; }
      const [value, low, high] = step.power[rung], small = document.createElement("small");
      small.textContent = `${percent(low)} to ${percent(high)} at tau ${step.tau.toFixed(3)}`;
      cell.replaceChildren(`${percent(value)} `, small);
    }
    if (!found.rungs.length) return say("power", "not measured");
    const rates = step.power.map((rate) => rate[0]), worst = Math.min(...rates);
    say("power", percent(rates.reduce((a, b) => a + b) / rates.length),
      `on average; at worst ${percent(worst)} (${found.rungs[rates.indexOf(worst)].replaceAll("_", " ")})`);
  }

  // A redacted page says no count under five, not even an expected one.
  const few = (count) => (found.fewest && count < found.fewest ? `under ${found.fewest}` : whole(count));

  function show() {
    const step = found.steps[slider.value], unsaid = step.flagged === null; // redacted: one to four
    const between = (rate, said) => (unsaid ? "" : `95 % interval ${said(rate[1])} to ${said(rate[2])}`);
    const hundredths = (share) => percent(share, 2);
    byId("percentile-now").textContent = `${step.percentile} %`;
    slider.setAttribute("aria-valuetext", `${step.percentile} percent of strangers below`);
    say("tau", step.tau.toFixed(3));
    say("flagged", unsaid ? found.unsaid : whole(step.flagged),
      `of ${whole(found.clips)}; strangers: about ${few(Math.round(found.clips * (1 - step.percentile / 100)))}`);
    say("rate", unsaid ? found.unsaid : hundredths(step.rate[0]), between(step.rate, hundredths));
    say("excess", unsaid ? found.unsaid : points(step.excess[0]), between(step.excess, points));
    say("p", unsaid ? found.unsaid : step.p < 0.001 ? "below 0.001" : step.p.toFixed(3));
    ladder(step);
    moveLine(step.tau);
    threshold.set(step.tau);
  }

  slider.value = found.own;
  slider.addEventListener("input", show);
  byId("percentile-own").addEventListener("click", () => { slider.value = found.own; show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
