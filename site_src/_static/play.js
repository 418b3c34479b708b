/* The page to play with: PLAY (play-data.js) holds the models, makeDecoder (decoder.js) draws.
   A model has one code, whatever sets it; sliders and plane show its coordinates along a basis. */
"use strict";

(() => {
  const RANGE = 2.2, KEY_STEP = 0.05;
  const TITLES = { deconv: "DeConv decoder", sbd: "SB decoder", "sbd-mixing": "Mixing SB decoder" };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const find = (selector, root = document) => root.querySelector(selector);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const clamp = (x) => Math.min(RANGE, Math.max(-RANGE, x));

  /* Runs in the Worker: what a picture looks like, and where its disc is, if there is one. */
  function work() {
    let decode;
    onmessage = ({ data }) => {
      if (data.model) { decode = makeDecoder(data.model); return; }
      const start = performance.now(), drawn = decode(data.code);
      const pixels = new Uint8ClampedArray(64 * 64 * 4), sums = [0, 0, 0];
      let count = 0, x = 0, y = 0;
      for (let i = 0, p = 0; i < drawn.length; i += 3, p += 4) {
        for (let c = 0; c < 3; c++) pixels[p + c] = 255 * drawn[i + c];
        pixels[p + 3] = 255;
        if (Math.max(drawn[i], drawn[i + 1], drawn[i + 2]) < 0.25) continue;
        count++;
        x += (p / 4) % 64;
        y += Math.floor(p / 256);
        for (let c = 0; c < 3; c++) sums[c] += pixels[p + c];
      }
      const disc = count < 40 ? null : { x: x / count, y: y / count, color: sums };
      postMessage({ pixels, disc, ms: performance.now() - start });
    };
  }

  /* A decoder in a thread of its own, as a function from a code to a promise of its picture. While one
     code is drawn only the latest waits; those before it are skipped, and their promise is of null. */
  function engine(name) {
    const source = new Blob([`${makeDecoder}\n(${work})()`], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(source));
    let drawing = null, next = null;
    const send = () => {
      [drawing, next] = [next, null];
      if (drawing) worker.postMessage({ code: drawing.code });
    };
    worker.postMessage({ model: PLAY.models[name] });
    worker.onmessage = ({ data }) => {
      drawing.done(data);
      send();
    };
    return (code) => new Promise((done) => {
      next?.done(null);
      next = { code, done };
      if (!drawing) send();
    });
  }

  const engines = {}, codes = {}, columns = [], shown = ["deconv", "sbd"];
  let turned = false, image = PLAY.images[0], last = null;

  /* The latents or the turned axes of a model, and which two of them span the plane. */
  function basisOf(name) {
    const { axes, informative } = PLAY.models[name];
    const latents = axes.map((_, i) => axes.map((_, j) => Number(i === j)));
    return turned ? { rows: axes, pair: [0, 1], word: "axis" }
      : { rows: latents, pair: informative.slice(0, 2), word: "latent" };
  }

  function described(disc) {
    if (!disc) return "no disc";
    const largest = Math.max(...disc.color), others = disc.color.filter((v) => v !== largest);
    const color = Math.max(...others) > 0.6 * largest ? "mixed-color"
      : ["red", "green", "blue"][disc.color.indexOf(largest)];
    return `a ${color} disc at x ${Math.round(disc.x)}, y ${Math.round(disc.y)}`;
  }

  /* A way of points as a path; where it jumps it is interrupted. */
  function path(points, jump) {
    let pen = false, before = [0, 0], text = "";
    for (const point of points) {
      if (!point) { pen = false; continue; }
      const far = Math.hypot(point[0] - before[0], point[1] - before[1]) > jump;
      text += `${pen && !far ? "L" : "M"}${point[0].toFixed(2)} ${point[1].toFixed(2)}`;
      [pen, before] = [true, point];
    }
    return text;
  }

  function column(name, holder) {
    const { rows, pair, word } = basisOf(name), labels = rows.map((_, k) => `${word} ${k + 1}`);
    holder.className = `decoder ${name}`;
    holder.setAttribute("aria-label", TITLES[name]);
    const lines = ["vertical", "horizontal"].flatMap((kind) => [0, 1, 2, 3, 4, 5].map((k) =>
      `<polyline class="${kind}" style="stroke-opacity:${0.4 + 0.12 * k}"></polyline>`));
    holder.innerHTML = `<h2>${TITLES[name]}</h2>
      <div class="stage">
        <div class="picture"><canvas width="64" height="64" role="img" aria-label="not drawn yet"></canvas>
          <svg viewBox="-0.5 -0.5 64 64" aria-hidden="true"><path class="edge"></path><path></path></svg></div>
        <div class="pad" tabindex="0" role="application" aria-roledescription="plane"
          aria-label="${TITLES[name]}: plane of ${labels[pair[0]]} and ${labels[pair[1]]}. The arrow keys move the dot.">
          <svg viewBox="${-RANGE} ${-RANGE} ${2 * RANGE} ${2 * RANGE}" aria-hidden="true">
            <path class="zero" d="M${-RANGE} 0H${RANGE}M0 ${-RANGE}V${RANGE}"></path>
            ${lines.join("")}<path class="trail"></path><circle r="0.13"></circle></svg>
          <span class="across">${labels[pair[0]]} →</span><span class="up">${labels[pair[1]]} ↑</span></div>
      </div>
      <p class="caption">&nbsp;</p><div class="sliders"></div>`;
    const canvas = find("canvas", holder), caption = find(".caption", holder), pad = find(".pad", holder);
    const seen = holder.querySelectorAll(".picture path"), trail = find(".trail", holder);
    const sliders = labels.map((label, k) => {
      const row = document.createElement("label");
      const mark = k === pair[0] ? " →" : k === pair[1] ? " ↑" : "";
      row.innerHTML = `<span>${label}${mark}</span><input type="range" min="${-RANGE}" max="${RANGE}"
        step="0.01" aria-label="${TITLES[name]}, ${label}"><output></output>`;
      find(".sliders", holder).append(row);
      const [input, output] = [find("input", row), find("output", row)];
      input.addEventListener("input", () => {
        begin(input);
        me.set([k], [Number(input.value)]);
        me.update();
      });
      return { input, output };
    });
    const ways = { disc: [], dot: [] };
    engines[name] ||= engine(name);

    const me = {
      name,
      at: () => pair.map((k) => dot(rows[k], codes[name])),
      set(which, values) {  // coordinates along the basis, which is orthonormal
        which.forEach((k, n) => {
          const step = values[n] - dot(rows[k], codes[name]);
          codes[name] = codes[name].map((z, i) => z + step * rows[k][i]);
        });
      },
      move: (point) => me.set(pair, point.map(clamp)),
      forget() { ways.disc = []; ways.dot = []; },
      lattice(color) {
        const project = (code) => [dot(rows[pair[0]], code), -dot(rows[pair[1]], code)];
        const grid = PLAY.models[name].lattices[color].map((row) => row.map(project));
        holder.querySelectorAll("polyline").forEach((line, n) => {
          const k = 2 * (n % 6), points = n < 6 ? grid.map((row) => row[k]) : grid[k];
          line.setAttribute("points", points.join(" "));
        });
      },
      /* Shows the code at once, and the picture when it is drawn. A promise of its disc (null: there
         is none), or of undefined where a later code took its place. */
      async update() {
        const [x, y] = me.at(), circle = find("circle", holder);
        circle.setAttribute("cx", clamp(x));
        circle.setAttribute("cy", -clamp(y));
        ways.dot.push([x, -y]);
        trail.setAttribute("d", path(ways.dot.slice(-400), 9));
        sliders.forEach(({ input, output }, k) => {
          const value = dot(rows[k], codes[name]);
          if (document.activeElement !== input || Math.abs(value - input.value) > 0.006)
            input.value = value;
          output.textContent = value.toFixed(2);
        });
        holder.setAttribute("aria-busy", true);
        const code = codes[name], way = ways.disc;
        const drawn = await engines[name](code);
        if (!drawn || !canvas.isConnected) return undefined;  // or mount() has replaced this column
        const { pixels, disc, ms } = drawn;
        holder.setAttribute("aria-busy", code !== codes[name]);
        canvas.getContext("2d").putImageData(new ImageData(pixels, 64, 64), 0, 0);
        way.push(disc && [disc.x, disc.y]);
        seen.forEach((line) => line.setAttribute("d", path(ways.disc.slice(-400), 8)));
        const text = described(disc);
        caption.textContent = text;
        canvas.setAttribute("aria-label", `${TITLES[name]} draws ${text}`);
        time(name, ms);
        return disc;
      },
    };

    let drag = null;
    const pointed = ({ clientX, clientY }) => {
      const box = pad.getBoundingClientRect();
      return [(2 * (clientX - box.left) / box.width - 1) * RANGE,
        (1 - 2 * (clientY - box.top) / box.height) * RANGE];
    };
    const follow = (event) => {
      begin(drag);
      const step = pointed(event).map((v, i) => clamp(v) - drag.own[i]);
      columns.forEach((other, n) => other.move(drag.all[n].map((v, i) => v + step[i])));
      columns.forEach((other) => other.update());
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      drag = { own: me.at(), all: columns.map((other) => other.at()) };
      follow(event);
    });
    pad.addEventListener("pointermove", (event) => drag && follow(event));
    for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { drag = null; });
    pad.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      begin(pad);
      const size = KEY_STEP * (event.shiftKey ? 5 : 1);
      columns.forEach((other) => {
        other.move(other.at().map((v, i) => v + size * way[i]));
        other.update();
      });
    });
    return me;
  }

  /* A new way begins when something else than before moves the dot; a walk ends. */
  function begin(control = {}) {
    if (control === last) return;
    last = control;
    columns.forEach((me) => me.forget());
    tell("");
  }
  function tell(text) { find("#told").textContent = text; }
  const times = {};
  function time(name, ms) {
    (times[name] ||= []).push(ms);
    times[name] = times[name].slice(-21);
    const middle = (list) => [...list].sort((a, b) => a - b)[list.length >> 1].toFixed(0);
    find("#times").textContent = "Milliseconds per picture in this browser: " + columns
      .filter((me) => times[me.name]).map((me) => `${TITLES[me.name]} ${middle(times[me.name])}`).join(", ");
  }

  function mount() {
    begin();
    find("#mixing").setAttribute("aria-pressed", shown[1] === "sbd-mixing");
    find("#turned").setAttribute("aria-pressed", turned);
    const holders = document.querySelectorAll("#play .decoder");
    columns.splice(0, 2, ...shown.map((name, n) => column(name, holders[n])));
    show();
  }
  function show() { columns.forEach((me) => { me.lattice(image.color); me.update(); }); }

  function start(from) {
    image = from;
    begin();
    Object.assign(codes, structuredClone(image.codes));
    show();
  }

  /* Along straight lines between the codes of four discs, the corners of a square. Where the code is
     straight, too, the disc walks the square. */
  async function walk() {
    const control = {}, corners = [[1, 1], [1, 9], [9, 9], [9, 1], [1, 1]], steps = 24;
    const strayed = columns.map(() => ({ most: 0, lost: 0 }));
    begin(control);
    for (let leg = 0; leg < 4; leg++)
      for (let n = 0; n <= steps; n++) {
        const share = n / steps, between = (a, b) => a.map((v, i) => v + share * (b[i] - v));
        const of = (me, [row, col]) => PLAY.models[me.name].lattices[image.color][row][col];
        columns.forEach((me) => {
          codes[me.name] = between(of(me, corners[leg]), of(me, corners[leg + 1]));
        });
        const pause = still ? 0 : new Promise((done) => setTimeout(done, 40));
        const discs = await Promise.all([...columns.map((me) => me.update()), pause]);
        if (last !== control) return;
        // A disc of 17 pixels at a place from 0 to 1 has its center here.
        const [y, x] = between(corners[leg], corners[leg + 1]).map((k) => 46 * (0.2 + 0.06 * k) + 8);
        columns.forEach((_, i) => {
          if (!discs[i]) strayed[i].lost++;
          else strayed[i].most = Math.max(strayed[i].most, Math.hypot(discs[i].x - x, discs[i].y - y));
        });
      }
    tell("Both went straight from code to code, around four discs at the corners of a square. " +
      columns.map((me, i) => `The disc of the ${TITLES[me.name]} strayed by up to ` +
        `${strayed[i].most.toFixed(1)} pixels from the square` +
        (strayed[i].lost ? " and was gone on a part of the way." : ".")).join(" "));
  }

  function normal() {  // within the sliders' range
    const z = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    return Math.abs(z) < RANGE ? z : normal();
  }

  const press = (selector, action) => find(selector).addEventListener("click", action);
  press("#line", walk);
  press("#random", () => {
    begin();
    const code = image.codes.sbd.map(normal);
    for (const name in codes) codes[name] = code;
    columns.forEach((me) => me.update());
  });
  press("#mixing", () => { shown[1] = shown[1] === "sbd" ? "sbd-mixing" : "sbd"; mount(); });
  press("#turned", () => { turned = !turned; mount(); });
  for (const entry of PLAY.images) {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = `<img src="${entry.picture}" alt="${entry.label}">`;
    button.addEventListener("click", () => start(entry));
    find("#images").append(button);
  }
  find("#play").hidden = false;
  start(image);
  mount();
})();
