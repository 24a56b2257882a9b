// The words of one language, and how it writes times. A word that is missing is shown by its key.

const SAID = "said.";
export const LANGUAGES = { en: "English", ja: "日本語" };
let words = {};
export let language = "en";
let clock, day, date, full, zone;
let patterns = [];
const known = new Map();

export async function speak(wanted) {
  language = LANGUAGES[wanted] ? wanted : "en";
  const answer = await fetch(`texts/${language}.json`);
  words = await answer.json();
  document.documentElement.lang = language;
  known.clear();
  patterns = Object.entries(words).filter(([key]) => key.startsWith(SAID)).map(([key, text]) =>
    [new RegExp(`^${key.slice(SAID.length).replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{\w+\}/g, "(.+)")}$`), text]);
  const hours = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  // The region of the browser, where it speaks the language: 23/11/2026 or 11/23/2026.
  const region = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;
  clock = new Intl.DateTimeFormat(region, hours);
  day = new Intl.DateTimeFormat(region, { month: "short", day: "numeric" });
  date = new Intl.DateTimeFormat(region, { year: "numeric", month: "2-digit", day: "2-digit" });
  zone = new Intl.DateTimeFormat(region, { timeZoneName: "short" });
  full = new Intl.DateTimeFormat(region, { year: "numeric", month: "2-digit", day: "2-digit", ...hours });
}

export function t(key, values) {
  const text = words[key] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") : text;
}

/** What the monitor calls a thing, in the words of the language; its own word where there is none. */
export function named(kind, value) {
  return words[`${kind}.${value}`] ?? String(value);
}

/** What the monitor says in a sentence, each part of it (they are divided by "; ") in the words of the language; as it
 * is where there are none. {a}, {b} … stand for what is another each time. */
export function sentence(text) {
  if (!patterns.length || !text) return text;
  if (known.size > 1000) known.clear();
  if (!known.has(text)) known.set(text, text.split("; ").map(part).join("；"));
  return known.get(text);
}

function part(text) {
  for (const [pattern, said] of patterns) {
    const found = pattern.exec(text);
    if (found) return said.replace(/\{(\w)\}/g, (_, name) => found[name.charCodeAt(0) - 96] ?? "");
  }
  return text;
}

export const atTime = (s) => clock.format(s * 1000);
export const atDay = (s) => day.format(s * 1000);
export const atDate = (s) => date.format(s * 1000);
export const atFull = (s) => full.format(s * 1000);
/** The name of the time zone in which all of these are. */
export const atZone = (s) => zone.formatToParts(s * 1000).find((one) => one.type === "timeZoneName").value;
export const atShort = (s) =>
  new Date(s * 1000).toDateString() === new Date().toDateString() ? atTime(s) : `${atDay(s)} ${atTime(s)}`;

export function lasting(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return t("s", { n: s });
  if (s < 3600) return t("min", { n: Math.round(s / 60) });
  if (s < 172800) return t("h", { n: Number((s / 3600).toFixed(s < 36000 ? 1 : 0)) });
  return t("d", { n: Math.round(s / 86400) });
}

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
