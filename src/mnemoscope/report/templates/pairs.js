(() => {
  const gallery = byId("gallery"), form = byId("review");
  if (!gallery || !form) return;
  const cards = [...gallery.children], name = `mnemoscope:${data.audit}`;
  const MARKS = { release: "✓ release", withhold: "✕ withhold" };
  let decisions = {}, current = null, awaited = null;

  // Files from disk may have no storage: the page then says so and works on until it is closed.
  function kept() {
    try { return JSON.parse(localStorage.getItem(name)) || {}; } catch { byId("unkept").hidden = false; return {}; }
  }
  function keep() {
    try { localStorage.setItem(name, JSON.stringify({ who: byId("who").value, decisions })); } catch { byId("unkept").hidden = false; }
  }

  const passes = {
    all: () => true,
    flagged: (card) => Number(card.dataset.score) > threshold.tau,
    learned: (card) => card.dataset.learned === "1",
    confirmed: (card) => card.dataset.confirmed === "1",
    open: (card) => !(decisions[card.dataset.clip] || {}).decision,
    decided: (card) => Boolean((decisions[card.dataset.clip] || {}).decision),
  };
  function filter() {
    const asked = byId("learned-for").value.trim(), stratum = byId("stratum").value, pass = passes[byId("show").value];
    let shown = 0;
    for (const card of cards) {
      const { train, patient, stratum: own, learned } = card.dataset;
      const theirs = !asked || (learned === "1" && (train.includes(asked) || patient.includes(asked)));
      card.hidden = !(pass(card) && theirs && (!stratum || own === stratum));
      shown += !card.hidden;
    }
    byId("shown").textContent = `${whole(shown)} of ${whole(cards.length)} pairs`;
  }

  function draw(card) {
    const made = decisions[card.dataset.clip] || {};
    if (made.decision) card.dataset.decision = made.decision; else delete card.dataset.decision;
    for (const button of card.querySelectorAll("button[data-do]"))
      button.setAttribute("aria-pressed", String(button.dataset.do === made.decision));
    const note = card.querySelector("input[data-do=note]");
    if (document.activeElement !== note) note.value = made.why || "";
    card.querySelector(".decision").textContent = made.decision
      ? `${MARKS[made.decision]}, ${made.who}, ${made.when}${made.why ? `: ${made.why}` : ""}` : "";
    const count = (what) => Object.values(decisions).filter((made) => made.decision === what).length;
    byId("decided").textContent = `${count("release")} to release, ${count("withhold")} to withhold`;
  }
  function decide(card, decision) {
    const who = byId("who");
    const clip = card.dataset.clip, why = (decisions[clip] || {}).why || "";
    const ask = (field, text) => { card.querySelector(".decision").textContent = text; field.focus(); };
    if (!who.value.trim()) return ask(who, "Give your name first: a decision needs one.");
    if (decision === "release" && !why.trim()) {
      awaited = card; // the release is made as soon as the note is there
      return ask(card.querySelector("input[data-do=note]"), "Say why in the note: a release needs a reason.");
    }
    decisions[clip] = { why, decision, who: who.value.trim(), when: new Date().toISOString() };
    keep();
    draw(card);
  }
  function note(card, why) {
    const clip = card.dataset.clip;
    decisions[clip] = { ...decisions[clip], why };
    if (awaited === card && why.trim()) { awaited = null; return decide(card, "release"); }
    keep();
    draw(card);
  }
  function undo(card) {
    delete decisions[card.dataset.clip];
    keep();
    draw(card);
  }

  function go(step) {
    const shown = cards.filter((card) => !card.hidden);
    if (!shown.length) return;
    const at = shown.indexOf(current);
    select(shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.min(shown.length - 1, Math.max(0, at + step))]);
  }
  function select(card) {
    current = card;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "center" });
  }
  const keys = {
    n: () => go(1), p: () => go(-1),
    r: () => current && decide(current, "release"), w: () => current && decide(current, "withhold"),
    e: () => current && current.querySelector("input[data-do=note]").focus(), u: () => current && undo(current),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target.dataset.do)) { event.preventDefault(); if (current) current.focus(); }
      return;
    }
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  // RFC 4180, every field in quotes; a text that a spreadsheet would take for a formula stands behind an apostrophe.
  function field(text) {
    const safe = /^[=+\-@\t\r']/.test(text) ? `'${text}` : text;
    return `"${safe.replaceAll('"', '""')}"`;
  }
  function table() {
    const rows = Object.entries(decisions).filter(([, made]) => made.decision)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([clip, made]) => [clip, made.decision, made.who, made.when, made.why]);
    return [["clip_id", "decision", "who", "when", "why"], ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
  }
  byId("export").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv;charset=utf-8" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // A paused film is its first frame, drawn once.
  function pause(still) {
    byId("pause").setAttribute("aria-pressed", String(still));
    for (const image of document.querySelectorAll(".pairs img, .portraits img")) {
      const drawn = image.parentNode.querySelector("canvas");
      if (!still && drawn) drawn.remove();
      if (still && !drawn) {
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth;
        canvas.height = image.naturalHeight;
        canvas.getContext("2d").drawImage(image, 0, 0);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", image.alt);
        image.after(canvas);
      }
      image.hidden = still;
    }
  }
  byId("pause").addEventListener("click", () => pause(byId("pause").getAttribute("aria-pressed") !== "true"));

  function mark(tau) {
    for (const card of cards) {
      const over = Number(card.dataset.score) > tau, place = card.querySelector(".mark");
      place.textContent = over ? "▲ above the threshold" : "not above the threshold";
      place.classList.toggle("flag", over);
    }
    filter();
  }

  const before = kept();
  decisions = before.decisions || {};
  byId("who").value = before.who || "";
  byId("who").addEventListener("change", keep);
  const strata = [...new Set(cards.map((card) => card.dataset.stratum).filter(Boolean))].sort();
  byId("stratum").append(...strata.map((text) => new Option(text, text)));
  byId("stratum").parentNode.hidden = !strata.length;
  for (const card of cards) {
    card.querySelector(".decide").hidden = false;
    card.addEventListener("focusin", () => { current = card; });
    for (const button of card.querySelectorAll("button[data-do]"))
      button.addEventListener("click", () => decide(card, button.dataset.do));
    card.querySelector("input[data-do=note]").addEventListener("change", (event) => note(card, event.target.value));
    draw(card);
  }
  for (const id of ["show", "stratum", "learned-for"]) byId(id).addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  threshold.watchers.push(mark);
  if (data.percentiles) mark(threshold.tau); else filter();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) window.addEventListener("load", () => pause(true));
})();
