(() => {
  const found = data.map, chart = byId("chart"), canvas = byId("points");
  if (!found || !chart) return;
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true });
  if (!gl) return; // the page says that the map needs WebGL

  const SETS = ["train", "holdout", "synthetic"], SHAPES = ["□", "△", "○"], MOST_LISTED = 500;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const x = new Uint16Array(bytes(found.x)), y = new Uint16Array(bytes(found.y));
  const score = new Float32Array(bytes(found.p_max)), state = new Uint8Array(bytes(found.state));
  const codes = Object.fromEntries(Object.entries(found.attributes).map(([name, one]) => [name, new Uint8Array(bytes(one.code))]));
  const n = x.length, part = new Uint8Array(n);
  part.fill(1, found.sets[0], found.sets[0] + found.sets[1]).fill(2, found.sets[0] + found.sets[1]);
  const shown = [true, true, true];
  const view = { x: 0.5, y: 0.5, scale: 1 }; // the map's centre in [0, 1], and how far it is enlarged

  // After Okabe and Ito, for the colour-blind, as dark as shows at 3:1 on both grounds; every second group is hollow too.
  const PALETTE = [[0, 114, 178], [190, 125, 0], [0, 158, 115], [196, 108, 158], [213, 94, 0], [30, 150, 205], [150, 142, 0], [128, 128, 128]];
  const hollow = (group) => group % 2;
  const [BLUE, ORANGE, , , RED, SKY, , GRAY] = PALETTE;
  const schemes = {
    learned: { groups: ["learned train clip", "other train clip", "synthetic, counts", "synthetic, does not count", "holdout"],
      colours: [BLUE, SKY, ORANGE, GRAY, PALETTE[2]], code: (i) => (part[i] === 1 ? 4 : (part[i] ? 2 : 0) + (state[i] ? 0 : 1)) },
    flagged: { groups: ["above the threshold", "not above it", "train"], colours: [RED, SKY, GRAY],
      code: (i) => (part[i] === 0 ? 2 : score[i] > threshold.tau ? 0 : 1) },
  };
  for (const [name, { groups }] of Object.entries(found.attributes))
    schemes[name] = { groups, colours: groups.map((_, k) => (groups[k] === "not given" ? GRAY : PALETTE[k % 7])), code: (i) => codes[name][i] };

  function program() {
    const compile = (kind, text) => { const made = gl.createShader(kind); gl.shaderSource(made, text); gl.compileShader(made); return made; };
    const made = gl.createProgram();
    gl.attachShader(made, compile(gl.VERTEX_SHADER, `
      attribute vec2 place; attribute vec4 colour; attribute float set, score;
      uniform vec2 centre, scale; uniform vec3 shown; uniform float size, tau;
      varying vec3 ink; varying float shape, rim, hole;
      void main() {
        float visible = set < 0.5 ? shown.x : set < 1.5 ? shown.y : shown.z;
        float flagged = set > 1.5 && score > tau ? 1.0 : 0.0; // these lie on all others
        gl_Position = visible > 0.5 ? vec4((place - centre) * scale, -flagged, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
        gl_PointSize = flagged > 0.5 ? max(8.0, size * 1.6) : size * (set < 1.5 ? 1.3 : 1.0);
        ink = colour.rgb; shape = set; rim = flagged;
        hole = gl_PointSize < 5.0 ? 0.0 : colour.a; // in smaller ones it would not be seen
      }`));
    gl.attachShader(made, compile(gl.FRAGMENT_SHADER, `
      precision mediump float; varying vec3 ink; varying float shape, rim, hole; uniform vec3 edge;
      void main() {
        vec2 p = gl_PointCoord * 2.0 - 1.0;
        if (shape > 1.5 && dot(p, p) > 1.0) discard;
        if (shape > 0.5 && shape < 1.5 && p.y < 2.0 * abs(p.x) - 1.0) discard;
        if (rim > 0.5) { gl_FragColor = vec4(dot(p, p) > 0.5 ? edge : ink, 1.0); return; }
        float within = shape > 1.5 ? dot(p, p) / 0.3 : shape > 0.5 ? max(2.0 * abs(p.x) - p.y + 0.8, p.y + 0.4) : 2.0 * max(abs(p.x), abs(p.y));
        if (hole > 0.5 && within < 1.0) discard;
        float solid = shape > 1.5 ? 0.75 : 0.95;
        gl_FragColor = vec4(ink * solid, solid); // premultiplied, as the page blends it
      }`));
    gl.linkProgram(made);
    gl.useProgram(made);
    return made;
  }
  const drawing = program(), at = (name) => gl.getUniformLocation(drawing, name);
  function attribute(name, values, size, type, normal) {
    const place = gl.getAttribLocation(drawing, name), buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, normal, 0, 0);
    return buffer;
  }
  // Synthetic points are the many: they come first, and the real ones lie on them.
  const order = new Uint32Array(n);
  for (let i = 0, real = found.sets[0] + found.sets[1]; i < n; i++) order[i] = (i + real) % n;
  const pair = new Uint16Array(2 * n), sets = new Uint8Array(n), scores = new Float32Array(n), inks = new Uint8Array(4 * n);
  order.forEach((i, k) => { pair[2 * k] = x[i]; pair[2 * k + 1] = y[i]; sets[k] = part[i]; scores[k] = part[i] ? score[i] : 0; });
  attribute("place", pair, 2, gl.UNSIGNED_SHORT, true);
  attribute("set", sets, 1, gl.UNSIGNED_BYTE, false);
  attribute("score", scores, 1, gl.FLOAT, false);
  const colours = attribute("colour", inks, 4, gl.UNSIGNED_BYTE, true);
  gl.enable(gl.BLEND);
  gl.enable(gl.DEPTH_TEST);
  gl.depthFunc(gl.LEQUAL);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  function paint() {
    const scheme = schemes[byId("colour").value], count = scheme.groups.map(() => [0, 0, 0]);
    order.forEach((i, k) => {
      const group = scheme.code(i);
      count[group][part[i]] += 1;
      inks.set(scheme.colours[group], 4 * k);
      inks[4 * k + 3] = hollow(group) * 255;
    });
    gl.bindBuffer(gl.ARRAY_BUFFER, colours);
    gl.bufferData(gl.ARRAY_BUFFER, inks, gl.STATIC_DRAW);
    byId("legend").replaceChildren(...scheme.groups.map((text, k) => {
      const one = document.createElement("span"), dot = document.createElement("span");
      dot.textContent = hollow(k) ? "□ " : "■ ";
      dot.style.color = `rgb(${scheme.colours[k]})`;
      const told = SETS.map((set, j) => [count[k][j], set]).filter(([number]) => number);
      one.append(dot, `${text}: ${told.map(([number, set]) => (set === text ? whole(number) : `${whole(number)} ${set}`)).join(", ") || 0}`);
      return one;
    }));
    ask();
  }

  const aspect = () => canvas.clientWidth / canvas.clientHeight;
  function factors() {
    const fit = 1.9 * view.scale, wide = aspect();
    return wide > 1 ? [fit / wide, fit] : [fit, fit * wide];
  }
  let waiting = false;
  function ask() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }
  function draw() {
    waiting = false;
    const rgb = getComputedStyle(canvas).color.match(/[\d.]+/g).slice(0, 3).map((value) => value / 255);
    const ratio = window.devicePixelRatio || 1, [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform2f(at("centre"), view.x, view.y);
    gl.uniform2f(at("scale"), ...factors());
    gl.uniform3f(at("shown"), ...shown.map(Number));
    gl.uniform1f(at("size"), ratio * Math.min(9, Math.max(2, (n > 20000 ? 2.5 : 5) * Math.sqrt(view.scale))));
    gl.uniform1f(at("tau"), Number.isNaN(threshold.tau) ? Infinity : threshold.tau);
    gl.uniform3f(at("edge"), ...rgb);
    gl.drawArrays(gl.POINTS, 0, n);
    if (!canvas.dataset.drawn) performance.mark("map");
    canvas.dataset.drawn = "1";
  }

  // Places on the screen and on the map.
  function toScreen(i) {
    const [sx, sy] = factors();
    return [((x[i] / 65535 - view.x) * sx + 1) / 2 * canvas.clientWidth, (1 - (y[i] / 65535 - view.y) * sy) / 2 * canvas.clientHeight];
  }
  function toMap(px, py) {
    const [sx, sy] = factors();
    return [(2 * px / canvas.clientWidth - 1) / sx + view.x, (1 - 2 * py / canvas.clientHeight) / sy + view.y];
  }

  // A grid of cells, so that the point under the pointer is found without looking at all of them.
  const CELLS = 256, cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));
  const starts = new Uint32Array(CELLS * CELLS + 1), members = new Uint32Array(n);
  const cellOf = (i) => (y[i] >> 8) * CELLS + (x[i] >> 8);
  for (let i = 0; i < n; i++) starts[cellOf(i) + 1] += 1;
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < n; i++) members[next[cellOf(i)]++] = i;
  function near(px, py, reach = 8) {
    const [x0, y1] = toMap(px - reach, py - reach), [x1, y0] = toMap(px + reach, py + reach);
    let best = -1, least = reach * reach;
    for (let row = cell(y0); row <= cell(y1); row++)
      for (let column = cell(x0); column <= cell(x1); column++)
        for (let k = starts[row * CELLS + column]; k < starts[row * CELLS + column + 1]; k++) {
          const i = members[k], [qx, qy] = toScreen(i), off = (qx - px) ** 2 + (qy - py) ** 2;
          // A flagged clip lies on the others wherever its disc is, of at least 4 pixels.
          const far = part[i] === 2 && score[i] > threshold.tau && off < 16 ? off - 16 : off;
          if (shown[part[i]] && far < least) { least = far; best = i; }
        }
    return best;
  }

  const tip = byId("tip");
  function point(px, py) {
    const i = near(px, py);
    tip.hidden = i < 0;
    if (i < 0) return;
    const told = [];
    if (found.thumbnails[i]) told.push(Object.assign(document.createElement("img"), { src: found.thumbnails[i], alt: "" }));
    const id = document.createElement("bdi");
    id.textContent = found.ids[i];
    told.push(`${SHAPES[part[i]]} ${SETS[part[i]]} `, id);
    if (part[i]) told.push(`, similarity ${score[i].toFixed(3)}${score[i] > threshold.tau ? ", ▲ above the threshold" : ""}`);
    else told.push(state[i] ? ", learned" : ", not learned");
    for (const name of Object.keys(codes)) told.push(`, ${name} ${found.attributes[name].groups[codes[name][i]]}`);
    if (!found.thumbnails[i]) told.push(" (no picture kept)");
    tip.replaceChildren(...told);
    tip.style.left = `${Math.min(px + 14, canvas.clientWidth - 180)}px`;
    tip.style.top = `${py > canvas.clientHeight / 2 ? py - 14 - tip.offsetHeight : py + 14}px`;
  }

  function link(id, card) {
    const made = Object.assign(document.createElement("a"), { href: `#${card.id}` });
    made.append(id);
    made.addEventListener("click", (event) => { event.preventDefault(); pairs.show(card); });
    return made;
  }
  function list(rows, what) {
    const title = document.createElement("h3"), box = document.createElement("div"), items = document.createElement("ol");
    const count = SETS.map((_, k) => rows.filter((i) => part[i] === k).length);
    title.textContent = `${whole(rows.length)} clips ${what}: ${SETS.map((set, k) => `${whole(count[k])} ${set}`).join(", ")}`;
    box.className = "scroll";
    box.tabIndex = 0;
    const ranked = rows.sort((a, b) => (score[b] || -Infinity) - (score[a] || -Infinity) || a - b);
    for (const i of ranked.slice(0, MOST_LISTED)) {
      const item = document.createElement("li"), id = document.createElement("bdi");
      id.textContent = found.ids[i];
      const pair = pairs.get(`${SETS[part[i]]} ${found.ids[i]}`);
      item.append(`${SETS[part[i]]} `, pair ? link(id, pair) : id, part[i] ? ` ${score[i].toFixed(3)}${score[i] > threshold.tau ? " ▲" : ""}` : state[i] ? " learned" : "");
      items.append(item);
    }
    box.append(items);
    const rest = rows.length - MOST_LISTED;
    if (rest > 0) box.append(`and ${whole(rest)} more`);
    byId("listed").replaceChildren(title, box);
  }
  function inView() {
    const rows = [];
    for (let i = 0; i < n; i++) {
      const [px, py] = toScreen(i);
      if (shown[part[i]] && px >= 0 && py >= 0 && px <= canvas.clientWidth && py <= canvas.clientHeight) rows.push(i);
    }
    list(rows, "in view");
  }
  function inside(path) {
    const rows = [];
    for (let i = 0; i < n; i++) {
      if (!shown[part[i]]) continue;
      const [px, py] = toScreen(i);
      let odd = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
        const [ax, ay] = path[a], [bx, by] = path[b];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) odd = !odd;
      }
      if (odd) rows.push(i);
    }
    list(rows, "inside the lasso");
  }
  function trace(path) {
    const outline = byId("outline"), pen = outline.getContext("2d");
    outline.width = canvas.clientWidth;
    outline.height = canvas.clientHeight;
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    for (const [px, py] of path) pen.lineTo(px, py);
    if (path.length) pen.closePath();
    pen.stroke();
  }

  function zoom(by, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
    const before = toMap(px, py);
    view.scale = Math.min(200, Math.max(0.8, view.scale * by));
    const after = toMap(px, py);
    view.x += before[0] - after[0];
    view.y += before[1] - after[1];
    trace([]);
    ask();
  }
  function move(dx, dy) {
    const [sx, sy] = factors();
    view.x -= (2 * dx) / canvas.clientWidth / sx;
    view.y += (2 * dy) / canvas.clientHeight / sy;
    trace([]);
    ask();
  }

  const lasso = byId("lasso"), drawsLasso = () => lasso.getAttribute("aria-pressed") === "true";
  let path = null, from = null;
  const spot = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (drawsLasso()) path = [spot(event)]; else from = spot(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = spot(event);
    if (path) { path.push(here); trace(path); }
    else if (from) { move(here[0] - from[0], here[1] - from[1]); from = here; tip.hidden = true; }
    else point(...here);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (path) path.push(spot(event));
    if (path && path.length > 2) { trace(path); inside(path); }
    path = from = null;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...spot(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => move(40, 0), ArrowRight: () => move(-40, 0), ArrowUp: () => move(0, 40), ArrowDown: () => move(0, -40),
      "+": () => zoom(1.4), "-": () => zoom(1 / 1.4), Enter: inView };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  lasso.addEventListener("click", () => { lasso.setAttribute("aria-pressed", String(!drawsLasso())); trace([]); });
  byId("nearer").addEventListener("click", () => zoom(1.4));
  byId("farther").addEventListener("click", () => zoom(1 / 1.4));
  byId("whole").addEventListener("click", () => { Object.assign(view, { x: 0.5, y: 0.5, scale: 1 }); trace([]); ask(); });
  byId("inside").addEventListener("click", inView);
  byId("colour").append(...Object.keys(schemes).map((name) => new Option(name, name)));
  byId("colour").addEventListener("change", paint);
  byId("sets").append(...SETS.map((name, k) => {
    const label = document.createElement("label"), box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.addEventListener("change", () => { shown[k] = box.checked; ask(); });
    label.append(box, ` ${SHAPES[k]} ${name} (${whole(found.sets[k])}) `);
    return label;
  }));
  new ResizeObserver(() => { tip.hidden = true; trace([]); ask(); }).observe(canvas);
  threshold.watchers.push(() => { if (byId("colour").value === "flagged") paint(); else ask(); });
  // Paper gets the map as it stands now, in ink: a copy, because what WebGL drew is gone by then.
  window.addEventListener("beforeprint", () => {
    canvas.style.color = "#000";
    draw();
    canvas.style.color = "";
    const still = byId("still").querySelector("canvas");
    still.width = canvas.width;
    still.height = canvas.height;
    still.getContext("2d").drawImage(canvas, 0, 0);
    byId("still").querySelector("figcaption").replaceChildren(`Coloured by ${byId("colour").value}. `, ...byId("legend").cloneNode(true).childNodes);
    byId("still").hidden = false;
  });
  chart.hidden = false;
  byId("no-map").hidden = true;
  paint();
})();
