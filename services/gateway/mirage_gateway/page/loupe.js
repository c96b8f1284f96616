// Zoom, pan, brightness and contrast of one image: wheel, pinch, drag, buttons, sliders and keys.

import { element } from "./elements.js";

const ZOOM_MAX = 8;
const STEP = 1.4;

export function loupe(picture, frame) {
  const state = { zoom: 1, x: 0, y: 0, brightness: 100, contrast: 100 };
  const pointers = new Map();
  let spread = 0;
  let moved = false;

  const level = element("output", { class: "level" }, "100 %");
  const slider = (name, label) => {
    const input = element("input", { type: "range", min: 20, max: 300, step: 5, value: 100, "aria-label": label });
    input.addEventListener("input", () => set({ [name]: Number(input.value) }));
    return input;
  };
  const brightness = slider("brightness", "Brightness");
  const contrast = slider("contrast", "Contrast");
  const button = (text, label, onclick) => element("button", { type: "button", class: "button quiet small", "aria-label": label, onclick }, text);
  const tools = element(
    "div",
    { class: "tools", role: "group", "aria-label": "View" },
    button("−", "Zoom out", () => zoomBy(1 / STEP)),
    level,
    button("+", "Zoom in", () => zoomBy(STEP)),
    element("label", {}, element("span", {}, "Brightness"), brightness),
    element("label", {}, element("span", {}, "Contrast"), contrast),
    button("Reset", "Reset the view", reset),
  );

  function set(changes) {
    Object.assign(state, changes);
    state.zoom = Math.max(1, Math.min(ZOOM_MAX, state.zoom));
    const room = { x: (frame.clientWidth * (state.zoom - 1)) / 2, y: (frame.clientHeight * (state.zoom - 1)) / 2 };
    for (const axis of ["x", "y"]) state[axis] = Math.max(-room[axis], Math.min(room[axis], state[axis]));
    picture.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
    picture.style.filter = `brightness(${state.brightness}%) contrast(${state.contrast}%)`;
    frame.classList.toggle("zoomed", state.zoom > 1);
    level.textContent = `${Math.round(state.zoom * 100)} %`;
    [brightness.value, contrast.value] = [state.brightness, state.contrast];
  }

  // Keeps the point under (x, y), measured from the frame's middle, where it is.
  function zoomBy(factor, x = 0, y = 0) {
    const zoom = Math.max(1, Math.min(ZOOM_MAX, state.zoom * factor));
    const ratio = zoom / state.zoom;
    set({ zoom, x: x - (x - state.x) * ratio, y: y - (y - state.y) * ratio });
  }

  function reset() {
    set({ zoom: 1, x: 0, y: 0, brightness: 100, contrast: 100 });
  }

  const fromMiddle = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  };
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, ...fromMiddle(event));
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    frame.setPointerCapture(event.pointerId);
    moved = false;
    spread = 0;
  });
  frame.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) {
      const [[ax, ay], [bx, by]] = pointers.values();
      const now = Math.hypot(ax - bx, ay - by);
      if (spread) zoomBy(now / spread, ...fromMiddle({ clientX: (ax + bx) / 2, clientY: (ay + by) / 2 }));
      spread = now;
      moved = true;
    } else if (state.zoom > 1) {
      const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
      moved ||= Math.hypot(dx, dy) > 2;
      set({ x: state.x + dx, y: state.y + dy });
    }
  });
  for (const name of ["pointerup", "pointercancel"])
    frame.addEventListener(name, (event) => {
      // A click instead of a drag brings the point to the middle.
      if (name === "pointerup" && !moved && pointers.size === 1 && state.zoom > 1) {
        const [x, y] = fromMiddle(event);
        set({ x: state.x - x, y: state.y - y });
      }
      pointers.delete(event.pointerId);
      spread = 0;
    });

  const pan = 40;
  const keys = {
    "+": () => zoomBy(STEP),
    "=": () => zoomBy(STEP),
    "-": () => zoomBy(1 / STEP),
    0: reset,
    b: () => set({ brightness: Math.max(20, state.brightness - 10) }),
    B: () => set({ brightness: Math.min(300, state.brightness + 10) }),
    c: () => set({ contrast: Math.max(20, state.contrast - 10) }),
    C: () => set({ contrast: Math.min(300, state.contrast + 10) }),
  };
  const arrows = { ArrowLeft: [pan, 0], ArrowRight: [-pan, 0], ArrowUp: [0, pan], ArrowDown: [0, -pan] };

  // True where the key was one of the view's.
  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (state.zoom > 1 && arrows[event.key]) {
      const [dx, dy] = arrows[event.key];
      set({ x: state.x + dx, y: state.y + dy });
      return true;
    }
    if (!keys[event.key]) return false;
    keys[event.key]();
    return true;
  }

  set({});
  return { tools, press };
}
