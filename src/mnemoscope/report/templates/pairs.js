(() => {
  const gallery = byId("gallery"), form = byId("review");
  if (!gallery || !form) return;
  const cards = [...gallery.children], name = `mnemoscope:${data.audit}`;
  const MARKS = { release: "✓ release", withhold: "✕ withhold" };
  const STEP = 24, who = byId("who");
  let decisions = {}, past = [], current = null, awaited = null, fit = cards, most = STEP;

  // Files from disk may have no storage: the page then says so and works on until it is closed.
  function kept() {
    try { return JSON.parse(localStorage.getItem(name)) || {}; } catch { byId("unkept").hidden = false; return {}; }
  }
  function keep() {
    try { localStorage.setItem(name, JSON.stringify({ who: who.value, decisions, past })); } catch { byId("unkept").hidden = false; }
  }

  const passes = {
    all: () => true,
    copied: (card) => card.dataset.copied === "1",
    flagged: (card) => Number(card.dataset.score) > threshold.tau,
    learned: (card) => card.dataset.learned === "1",
    confirmed: (card) => card.dataset.confirmed === "1",
    open: (card) => !(decisions[card.dataset.clip] || {}).decision,
    decided: (card) => Boolean((decisions[card.dataset.clip] || {}).decision),
  };
  function filter() {
    const asked = byId("learned-for").value.trim(), stratum = byId("stratum").value, pass = passes[byId("show").value];
    fit = cards.filter((card) => {
      const { train, patient, stratum: own, learned } = card.dataset;
      const theirs = !asked || (learned === "1" && (train.includes(asked) || patient.includes(asked)));
      return pass(card) && theirs && (!stratum || own === stratum);
    });
    lay();
  }
  function afresh() {
    most = STEP;
    filter();
  }
  function lay() {
    const rest = fit.length - most, laid = new Set(fit.slice(0, most));
    for (const card of cards) card.hidden = !laid.has(card);
    byId("shown").textContent = `${whole(fit.length)} of ${whole(cards.length)} pairs`;
    byId("more").hidden = rest <= 0;
    byId("more").textContent = `Show ${Math.min(STEP, rest)} more of ${whole(rest)}`;
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
    byId("undo").disabled = !past.length;
    byId("decided").textContent = `${count("release")} to release, ${count("withhold")} to withhold`;
  }
  function decide(card, decision) {
    const clip = card.dataset.clip, why = (decisions[clip] || {}).why || "";
    if (!who.value.trim()) return ask(decision, () => decide(card, decision));
    if (decision === "release" && !why.trim()) {
      awaited = card; // the release is made as soon as the note is there
      card.querySelector(".decision").textContent = "Say why in the note: a release needs a reason.";
      return card.querySelector("input[data-do=note]").focus();
    }
    past.push([clip, decisions[clip] || {}]);
    decisions[clip] = { why, decision, who: who.value.trim(), when: new Date().toISOString() };
    keep();
    draw(card);
  }
  // Asks for the name once, and goes on where it was given.
  function ask(decision, then) {
    const dialog = byId("asks");
    byId("asks-what").textContent = decision;
    dialog.returnValue = "";
    dialog.onclose = () => {
      if (dialog.returnValue !== "go") return;
      who.value = byId("asked").value.trim();
      then();
    };
    dialog.showModal();
  }
  function note(card, why) {
    const clip = card.dataset.clip;
    decisions[clip] = { ...decisions[clip], why };
    if (awaited === card && why.trim()) { awaited = null; return decide(card, "release"); }
    keep();
    draw(card);
  }
  function undo() {
    if (!past.length) return;
    const [clip, before] = past.pop(), card = cards.find((one) => one.dataset.clip === clip);
    decisions[clip] = { ...before, why: decisions[clip].why || before.why || "" };
    keep();
    if (!card) return draw(cards[0]); // it is on another page of pairs
    draw(card);
    select(card);
    if (!decisions[clip].decision) card.querySelector(".decision").textContent = "Taken back: not decided.";
  }

  function go(step) {
    const at = fit.indexOf(current), last = fit.length - 1;
    if (fit.length) select(fit[at < 0 ? (step > 0 ? 0 : Math.min(most - 1, last)) : Math.min(last, Math.max(0, at + step))]);
  }
  function select(card) {
    if (!fit.includes(card)) {
      for (const [id, value] of [["show", "all"], ["stratum", ""], ["learned-for", ""]]) byId(id).value = value;
      filter();
    }
    most = Math.max(most, STEP * Math.ceil((fit.indexOf(card) + 1) / STEP));
    lay();
    current = card;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "center" });
  }
  const keys = {
    n: () => go(1), p: () => go(-1),
    r: () => current && decide(current, "release"), w: () => current && decide(current, "withhold"),
    e: () => current && current.querySelector("input[data-do=note]").focus(), u: undo,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) {
      const leaves = event.key === "Escape" || (event.key === "Enter" && (event.target.dataset.do || event.target === who));
      if (leaves && !event.target.closest("dialog")) { event.preventDefault(); if (current || event.key === "Enter") select(current || fit[0] || cards[0]); }
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
      .map(([clip, made]) => [clip, made.decision, made.who, made.when, made.why, data.audit]);
    return [["clip_id", "decision", "who", "when", "why", "audit"], ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
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
  past = before.past || [];
  who.value = before.who || "";
  who.addEventListener("change", keep);
  pairs.show = select;
  for (const card of [...cards].reverse()) {
    pairs.set(`synthetic ${card.dataset.clip}`, card).set(`train ${card.dataset.train}`, card);
    card.querySelector(".decide").hidden = false;
    card.addEventListener("focusin", () => { current = card; });
    for (const button of card.querySelectorAll("button[data-do]"))
      button.addEventListener("click", () => decide(card, button.dataset.do));
    card.querySelector("input[data-do=note]").addEventListener("change", (event) => note(card, event.target.value));
    draw(card);
  }
  for (const id of ["show", "stratum", "learned-for"]) for (const kind of ["input", "change"]) byId(id).addEventListener(kind, afresh);
  for (const link of document.querySelectorAll("a[data-show]"))
    link.addEventListener("click", () => { byId("show").value = link.dataset.show; afresh(); });
  byId("more").addEventListener("click", () => { const next = fit[most]; most += STEP; lay(); next.focus(); });
  byId("undo").addEventListener("click", undo);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  threshold.watchers.push(mark);
  if (data.percentiles) mark(threshold.tau); else filter();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) window.addEventListener("load", () => pause(true));
})();
