/* The README's moving picture of the two codes, here with a slider for the epoch. It takes the place
   of that picture where there are scripts. GEOMETRY comes from geometry-data.js. */
"use strict";

(() => {
  const picture = document.querySelector('img[src$="geometry_training.webp"]');
  const NAMES = { deconv: "DeConv decoder", sbd: "SB decoder" };
  const { epochs, truth, decoders } = GEOMETRY, last = epochs.length - 1;
  const SVG = "http://www.w3.org/2000/svg";
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  const box = document.createElement("figure");
  box.className = "epochs";
  box.innerHTML = `<div class="panels"></div><div class="controls">
    <button type="button" class="call first">Play</button>
    <label>epoch <output>1</output><input type="range" min="0" max="${last}" step="1"></label></div>`;
  (picture.closest("picture") || picture).replaceWith(box);
  const [button, output, slider] = ["button", "output", "input"].map((tag) => box.querySelector(tag));

  /* A panel with six lines each way, dark ones at the larger x and y; y grows downward. */
  function panel(title, name) {
    const holder = document.createElement("div");
    holder.innerHTML = `<h3 class="${name}">${title}</h3><svg role="img"></svg><p></p>`;
    box.firstChild.append(holder);
    const svg = holder.querySelector("svg"), lines = [];
    for (const kind of ["vertical", "horizontal"])
      for (let k = 0; k < 6; k++) {
        const line = document.createElementNS(SVG, "polyline");
        line.setAttribute("class", kind);
        line.style.strokeOpacity = 0.4 + 0.12 * k;
        svg.append(line);
        lines.push(line);
      }
    return (lattice, view, text, about) => {
      svg.setAttribute("viewBox", view);
      svg.setAttribute("aria-label", about);
      lines.forEach((line, n) => {
        const k = 2 * (n % 6);
        const points = n < 6 ? lattice.map((row) => row[k]) : lattice[k];
        line.setAttribute("points", points.map((point) => point.join()).join(" "));
      });
      holder.querySelector("p").textContent = text;
    };
  }

  /* One window per decoder for all epochs, so that a code can be seen to grow. */
  function windowOf(lattices) {
    const points = lattices.flat(2);
    const [x, y] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, top] = [Math.min(...x), Math.min(...y)];
    const side = Math.max(Math.max(...x) - left, Math.max(...y) - top) * 1.06;
    const middle = [(Math.max(...x) + left) / 2, (Math.max(...y) + top) / 2];
    return [middle[0] - side / 2, middle[1] - side / 2, side, side].join(" ");
  }

  panel("true places", "truth")(truth, windowOf([truth]), "where the discs are drawn",
    "A square grid: the true places of the disc.");
  const panels = Object.entries(decoders).map(([name, { planes, captions }]) => {
    const draw = panel(NAMES[name], name), view = windowOf(planes);
    return (i) => draw(planes[i], view, captions[i],
      `The same grid in the code of the ${NAMES[name]} after epoch ${epochs[i]}: ${captions[i]}.`);
  });

  function show(i) {
    slider.value = i;
    output.textContent = epochs[i];
    slider.setAttribute("aria-valuetext", `epoch ${epochs[i]}`);
    panels.forEach((draw) => draw(i));
  }

  let timer = 0;
  function stop() {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  }
  function play() {
    stop();  // the button may have started it before it came into view
    let i = Number(slider.value) === last ? 0 : Number(slider.value);
    show(i);
    button.textContent = "Pause";
    timer = setInterval(() => (i < last ? show(++i) : stop()), 200);
  }
  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  show(still ? last : 0);
  if (!still)  // once, when it comes into view
    new IntersectionObserver((seen, observer) => {
      if (seen.some((entry) => entry.isIntersecting)) { observer.disconnect(); play(); }
    }, { threshold: 0.4 }).observe(box);
})();
