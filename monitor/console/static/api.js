// Everything the page asks of the monitor. A failure is an Error whose message is a sentence for a person.

import { sentence, t } from "./text.js";

const BASE = "api/v1/";
const CLOCKS_DIFFER_S = 2;
let fastS = 0;

/** Seconds since 1970 by the monitor's clock: a wall's own may be minutes off, and would ask for the wrong time. */
export const now = () => Date.now() / 1000 + fastS;

function compareClocks(answer) {
  const toldS = Date.parse(answer.headers.get("date") ?? "") / 1000 + 0.5 - Date.now() / 1000;
  if (Number.isFinite(toldS)) fastS = Math.abs(toldS) > CLOCKS_DIFFER_S ? toldS : 0;
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { "X-VAD-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, t("no_answer"));
  }
  compareClocks(answer);
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401 && !path.startsWith("session")) document.dispatchEvent(new Event("logged-out"));
    throw new Refused(answer.status, sentence(said.detail) || t("refused", { status: answer.status }));
  }
  return said;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body ?? {});
export const remove = (path) => ask("DELETE", path);
export const camera = (name) => `cameras/${encodeURIComponent(name)}`;
export const alert = (id) => `alerts/${encodeURIComponent(id)}`;
export const address = (path) => BASE + path;

/** Camera → {url, capturedS} of a new picture, of those that gave one. Whoever takes a url revokes it. */
export async function pictures(names) {
  const found = new Map();
  try {
    const answer = await fetch(`${BASE}pictures?${new URLSearchParams(names.map((name) => ["camera", name]))}`);
    if (answer.ok) for (const [at, file] of await answer.formData())
      found.set(names[Number(at)], { url: URL.createObjectURL(file), capturedS: parseFloat(file.name) });
  } catch { /* none: the tiles say so */ }
  return found;
}

/** {url, capturedS} of a new picture, or null. Whoever takes the url revokes it. */
export async function picture(name) {
  try {
    const answer = await fetch(`${BASE}${camera(name)}/picture`);
    if (answer.status !== 200) return null;
    return { url: URL.createObjectURL(await answer.blob()), capturedS: Number(answer.headers.get("x-captured-s")) };
  } catch {
    return null;
  }
}
