// Elements without markup in strings: what comes from outside is always text.

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (["value", "checked", "muted", "hidden", "disabled", "selected"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(9)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child);
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Sets text only where it is another: 200 tiles are looked at once a second. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let quiet;
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(quiet);
  quiet = setTimeout(() => place.classList.remove("shown"), 4000);
}

/** A modal dialog; the promise is done when it closes. */
export function dialog(title, close, ...children) {
  const box = h("dialog", { "aria-label": title },
    h("form", { method: "dialog" }, h("div", { class: "dialog-head" }, h("h2", {}, title),
      h("button", { class: "plain", value: "close", "aria-label": close, type: "button", onclick: () => box.close() }, "✕"))),
    children);
  document.body.append(box);
  box.showModal();
  return { box, done: new Promise((done) => box.addEventListener("close", () => { box.remove(); done(); })) };
}
