// Two tones every few seconds while something is raised that nobody has seen, a low one while the page hears nothing:
// who listens and does not look must not take a dead page for a calm plant. Off until somebody switches it on:
// browsers let no page sound by itself.

let context = null;
let timer = null;
let due = () => null;
const TONES = { raised: [[880, 0], [660, 0.22]], silent: [[220, 0]] };
export const sound = { on: localStorage.getItem("vad.sound") === "1" };

/** `why` says what there is to be heard: "raised", "silent" or null. */
export function listen(why) {
  due = why;
  if (sound.on) start();
}

export function toggle() {
  sound.on = !sound.on;
  localStorage.setItem("vad.sound", sound.on ? "1" : "0");
  if (sound.on) {
    start();
    play("raised");
  } else {
    clearInterval(timer);
    timer = null;
  }
  return sound.on;
}

/** Whether the browser still waits for a click or a key before it lets us be heard. */
export const waits = () => sound.on && context?.state === "suspended";

function start() {
  context ??= new AudioContext();
  timer ??= setInterval(() => due() && play(due()), 4000);
  const wake = () => context.resume();
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, wake, { once: true });
}

function play(why) {
  if (context.state !== "running") return void context.resume();
  TONES[why].forEach(([pitch, after]) => {
    const tone = context.createOscillator(), gain = context.createGain(), at = context.currentTime + after;
    tone.frequency.value = pitch;
    gain.gain.setValueAtTime(0.0001, at);
    gain.gain.exponentialRampToValueAtTime(0.25, at + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, at + 0.2);
    tone.connect(gain).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.22);
  });
}
