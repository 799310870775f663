// The viewer of tiles: layers drawn on canvases, which Leaflet pans and zooms. Runs after page.js.
"use strict";

// ---- Tiles: what was embedded, made into pixels

const DATA = JSON.parse(find("#data").textContent);
const hidden = new Set();  // ids of the classes that are switched off
const known = new Set(DATA.classes.map((each) => each.id));
const named = new Map(DATA.classes.map((each) => [each.id, each.name]));

/** Return "#rrggbb" as a pixel: its four bytes as one number, in the machine's own order. */
function pixel(hex) {
  const channels = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return new Uint32Array(new Uint8Array([...channels, 255]).buffer)[0];
}

/** Read deflated ids. No picture is decoded, so no browser can alter them. */
async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const kept = new Map();
/** Return what `work` gives for a key, worked out once. */
function once(key, work) {
  if (!kept.has(key)) kept.set(key, work());
  return kept.get(key);
}

async function photograph(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** Return a tile as a run sees it: image, target and prediction. */
async function pixels(run, entry) {
  const tile = DATA.tiles[entry.key];
  const [image, target, prediction] = await Promise.all([
    once(`image ${entry.key}`, () => photograph(tile.image)),
    once(`target ${entry.key}`, () => inflate(tile.target)),
    once(`prediction ${run} ${entry.key}`, () => inflate(entry.prediction)),
  ]);
  return { width: tile.width, height: tile.height, image, target, prediction };
}

// ---- Layers: a canvas of the tile's own size, a pixel a pixel

const CLEAR = 0;
const WRONG = pixel(DATA.wrong);
const STRIPES = [pixel("#e8e8e8"), pixel("#c4c4c4")];

/** Colour a class map by position; ids that no class has are ignored pixels, hatched. */
function classMap(ids, width) {
  const colours = DATA.classes.map((each) => [each.id, hidden.has(each.id) ? CLEAR : pixel(each.color)]);
  const palette = Object.assign(new Array(256), Object.fromEntries(colours));
  return (n) => palette[ids[n]] ?? stripe(n, width);
}

function errorMap({ target, prediction, width }) {
  return (n) => (!known.has(target[n]) ? stripe(n, width) : target[n] === prediction[n] ? CLEAR : WRONG);
}

function stripe(n, width) {
  const diagonal = Math.floor(n / width) + (n % width);
  return STRIPES[Math.floor(diagonal / Math.max(1, Math.floor(width / 50))) % 2];
}

/** Make a canvas of pixels from their colours by position. */
function coloured(width, height, colour) {
  const canvas = make("canvas", { width, height });
  const picture = new ImageData(width, height);
  const filled = new Uint32Array(picture.data.buffer);
  for (let n = 0; n < filled.length; n++) filled[n] = colour(n);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

/** Draw a layer: the photograph, with a map over it where the layer is one. */
function draw(context, kind, seen, opacity) {
  const { width, height } = seen;
  context.globalAlpha = 1;
  context.drawImage(seen.image, 0, 0, width, height);
  if (kind === "image") return;
  if (kind === "error") pale(context, width, height);
  context.globalAlpha = kind === "error" ? 1 : opacity;
  const colour = kind === "error" ? errorMap(seen) : classMap(seen[kind], width);
  context.drawImage(coloured(width, height, colour), 0, 0);
}

/** Turn what is drawn to pale grey, so that nothing but errors has colour. */
function pale(context, width, height) {
  for (const [mode, style] of [["saturation", "#888"], ["source-over", "rgb(250 250 250 / 60%)"]]) {
    context.globalCompositeOperation = mode;
    context.fillStyle = style;
    context.fillRect(0, 0, width, height);
  }
  context.globalCompositeOperation = "source-over";
}

// ---- The viewer

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const scored = (entry) => `accuracy ${percent(entry.accuracy)}, mIoU\u00a0${entry.miou === null ? "–" : entry.miou.toFixed(2)}`;

/** A canvas that lies on the map like an image. */
const CanvasOverlay = L.ImageOverlay.extend({
  _initImage() {
    this._image = this._url;
    this._image.classList.add("leaflet-image-layer", "leaflet-zoom-animated");
  },
});

class Viewer {
  constructor() {
    this.run = 0;
    this.shown = null;
    this.split = 50;
    this.opacity = 1;
    this.sides = { left: { layer: "image" }, right: { layer: "prediction 0" } };
    this.makeMap();
    this.makeHandle();
    this.makeLegend();
    this.makeControls();
    this.makeGallery();
  }

  makeMap() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = L.map("map", {
      crs: L.CRS.Simple, attributionControl: false, minZoom: -4, maxZoom: 6, zoomSnap: 0.25, zoomDelta: 0.5,
      zoomAnimation: !still, inertia: !still, scrollWheelZoom: false, maxBoundsViscosity: 0.8,
    });
    // The wheel scrolls the page until the map is meant.
    this.map.on("focus", () => this.map.scrollWheelZoom.enable());
    this.map.on("blur", () => this.map.scrollWheelZoom.disable());
    this.map.on("move zoom resize", () => this.clip());
    this.map.on("mousemove", (event) => this.point(event.latlng));
    this.map.on("mouseout", () => (find("#pointed").textContent = "\u00a0"));
    for (const side of ["left", "right"]) this.sides[side].pane = this.map.createPane(side);
  }

  makeHandle() {
    const handle = find("#handle");
    const keys = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    handle.addEventListener("keydown", (event) => {
      const step = keys[event.key] * (event.shiftKey ? 10 : 1);
      if (Number.isNaN(step)) return;
      event.preventDefault();
      this.part(this.split + step);
    });
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = handle.parentNode.getBoundingClientRect();
      this.part((100 * (event.clientX - box.left)) / box.width);
    });
  }

  makeLegend() {
    for (const each of DATA.classes) {
      const box = make("input", { type: "checkbox", "data-class": each.id });
      box.checked = true;
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = each.color;
      find("#legend").append(make("label", {}, box, swatch, each.name));
      box.addEventListener("change", () => {
        box.checked ? hidden.delete(each.id) : hidden.add(each.id);
        this.paint();
      });
    }
  }

  makeControls() {
    for (const side of ["left", "right"]) {
      find(`#${side}`).addEventListener("change", (event) => {
        this.sides[side].layer = event.target.value;
        this.paint();
      });
    }
    find("#opacity").addEventListener("input", (event) => {
      this.opacity = event.target.value / 100;
      this.paint();
    });
    find("#run")?.addEventListener("change", (event) => {
      this.run = Number(event.target.value);
      this.makeGallery();
    });
    find("#previous").addEventListener("click", () => this.step(-1));
    find("#next").addEventListener("click", () => this.step(1));
    find("#whole").addEventListener("click", () => this.whole());
  }

  /** List the run's tiles by why they are looked at, each as image, target and error, and show one: that which was
   * shown before, or the middling one of those that hold most classes. */
  makeGallery() {
    const groups = {
      worst: ["Worst", (why) => why.includes("worst")],
      best: ["Best", (why) => why.includes("best")],
      rich: ["Richest in classes", (why) => why.includes("rich")],
      spread: ["In between", (why) => why.join() === "spread"],
    };
    const tiles = DATA.runs[this.run].tiles;
    this.buttons = [];
    find("#gallery").replaceChildren();
    for (const [heading, belongs] of Object.values(groups)) {
      const members = tiles.filter((entry) => belongs(entry.why));
      if (!members.length) continue;
      const list = make("ul", { class: "tiles" }, ...members.map((entry) => make("li", {}, this.thumbnail(entry))));
      find("#gallery").append(make("h3", {}, heading), list);
    }
    const rich = this.buttons.filter(({ entry }) => entry.why.includes("rich"));
    const same = this.buttons.find(({ entry }) => entry.key === this.shown?.entry.key);
    const first = same ?? rich[rich.length >> 1] ?? this.buttons[0];
    if (first) this.show(this.run, first.entry, first.button);
  }

  thumbnail(entry) {
    const { width, height } = DATA.tiles[entry.key];
    const [wide, high] = [128, Math.round((128 * height) / width)];
    const canvas = make("canvas", { width: 3 * wide + 12, height: high, "aria-hidden": "true" });
    const button = make("button", { type: "button", "aria-pressed": "false", "data-tile": entry.tile },
      canvas, make("b", {}, entry.tile), make("span", {}, scored(entry)));
    const run = this.run;
    button.addEventListener("click", () => {
      this.show(run, entry, button);
      find(".stage").scrollIntoView({ block: "nearest" });
    });
    this.buttons.push({ entry, button });
    pixels(run, entry).then((seen) => {
      ["image", "target", "error"].forEach((kind, n) => {
        const part = make("canvas", { width, height });
        draw(part.getContext("2d"), kind, seen, 1);
        canvas.getContext("2d").drawImage(part, n * (wide + 6), 0, wide, high);
      });
    });
    return button;
  }

  step(by) {
    const at = this.buttons.findIndex(({ button }) => button === this.shown.button);
    const { entry, button } = this.buttons[(at + by + this.buttons.length) % this.buttons.length];
    this.show(this.run, entry, button);
  }

  /** Show a tile: as all runs see it that looked at it. */
  async show(run, entry, button) {
    this.shown = { run, entry, button };
    for (const each of this.buttons) each.button.setAttribute("aria-pressed", each.button === button);
    const found = DATA.runs.map(({ tiles }) => tiles.find((other) => other.key === entry.key));
    const seen = await Promise.all(found.map((other, n) => other && pixels(n, other)));
    if (this.shown.button !== button) return;  // another was chosen meanwhile
    this.seen = seen;
    this.offer(run);
    const { width, height } = seen[run];
    if (this.width !== width || this.height !== height) this.place(width, height);
    this.paint();
  }

  /** Offer the layers of the tile that is shown; a run that has none gives way to the one whose tiles are listed. */
  offer(run) {
    const several = DATA.runs.length > 1;
    const layers = [["image", "image"], ["target", "target"]];
    this.seen.forEach((seen, n) => {
      if (!seen) return;
      const of = several ? ` – ${DATA.runs[n].label}` : "";
      layers.push([`prediction ${n}`, `prediction${of}`], [`error ${n}`, `error${of}`]);
    });
    this.names = new Map(layers);
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      if (!this.names.has(state.layer)) state.layer = `${state.layer.split(" ")[0]} ${run}`;
      find(`#${side}`).replaceChildren(...layers.map(([value, name]) => make("option", { value }, name)));
      find(`#${side}`).value = state.layer;
    }
  }

  /** Lay canvases of a new size on the map. */
  place(width, height) {
    [this.width, this.height] = [width, height];
    this.bounds = L.latLngBounds([0, 0], [height, width]);
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      state.overlay?.remove();
      state.canvas = make("canvas", { width, height });
      this.map.setMaxBounds(this.bounds.pad(0.5));
    }
    this.whole();
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      state.overlay = new CanvasOverlay(state.canvas, this.bounds, { pane: side }).addTo(this.map);
    }
  }

  whole() {
    this.map.fitBounds(this.bounds, { animate: false });
    this.clip();
  }

  paint() {
    if (!this.seen) return;
    for (const side of ["left", "right"]) {
      const { layer, canvas } = this.sides[side];
      const [kind, run] = layer.split(" ");
      const seen = run === undefined ? this.seen.find(Boolean) : this.seen[run];
      draw(canvas.getContext("2d"), kind, seen, this.opacity);
      find(`#${side}-name`).textContent = this.names.get(layer);
    }
    this.tell();
  }

  part(percentage) {
    this.split = Math.round(10 * Math.min(100, Math.max(0, percentage))) / 10;
    this.clip();
    this.tell();
  }

  /** Cut both panes at the handle. Their origin moves with the map, the handle does not. */
  clip() {
    const size = this.map.getSize();
    const near = this.map.containerPointToLayerPoint([0, 0]);
    const far = this.map.containerPointToLayerPoint(size);
    const at = near.x + (size.x * this.split) / 100;
    const box = (from, to) => `polygon(${[[from, near.y], [to, near.y], [to, far.y], [from, far.y]].map(([x, y]) => `${x}px ${y}px`)})`;
    this.sides.left.pane.style.clipPath = box(near.x, at);
    this.sides.right.pane.style.clipPath = box(at, far.x);
    const handle = find("#handle");
    handle.style.left = `${this.split}%`;
    handle.setAttribute("aria-valuenow", Math.round(this.split));
    handle.setAttribute("aria-valuetext", `${Math.round(this.split)} % from the left`);
  }

  /** Say what is shown, when it has settled. */
  tell() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      const { entry, run } = this.shown;
      const whose = DATA.runs.length > 1 ? `${DATA.runs[run].label} ` : "";
      const name = (side) => this.names.get(this.sides[side].layer);
      find("#status").textContent =
        `Tile ${entry.tile}: ${whose}${scored(entry)}; left ${name("left")}, right ${name("right")}, parted at ${Math.round(this.split)} %.`;
    }, 150);
  }

  /** Name the classes under the pointer. */
  point({ lat, lng }) {
    const [row, column] = [Math.floor(this.height - lat), Math.floor(lng)];
    const inside = row >= 0 && column >= 0 && row < this.height && column < this.width;
    const at = row * this.width + column;
    const name = (ids) => named.get(ids[at]) ?? "ignored";
    const said = (seen, n) => seen && `${DATA.runs.length > 1 ? DATA.runs[n].label : "prediction"}: ${name(seen.prediction)}`;
    find("#pointed").textContent = inside && this.seen
      ? [`row ${row}, column ${column}`, `target: ${name(this.seen.find(Boolean).target)}`, ...this.seen.map(said).filter(Boolean)].join(" · ")
      : "\u00a0";
  }
}

if (DATA.runs.some(({ tiles }) => tiles.length)) {
  find("#viewer").hidden = false;
  new Viewer();
}
