// The words of one language, and how it writes times. A word that is missing is shown by its key.

export const LANGUAGES = { en: "English", ja: "日本語" };
let words = {};
export let language = "en";
let clock, day, full;

export async function speak(wanted) {
  language = LANGUAGES[wanted] ? wanted : "en";
  const answer = await fetch(`texts/${language}.json`);
  words = await answer.json();
  document.documentElement.lang = language;
  const hours = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  // The region of the browser, where it speaks the language: 23/11/2026 or 11/23/2026.
  const region = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;
  clock = new Intl.DateTimeFormat(region, hours);
  day = new Intl.DateTimeFormat(region, { month: "short", day: "numeric" });
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

export const atTime = (s) => clock.format(s * 1000);
export const atDay = (s) => day.format(s * 1000);
export const atFull = (s) => full.format(s * 1000);
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
