// Two tones every few seconds while something is raised that nobody has seen. Off until somebody switches it on:
// browsers let no page sound by itself.

let context = null;
let timer = null;
let due = () => false;
export const sound = { on: localStorage.getItem("vad.sound") === "1" };

export function listen(isDue) {
  due = isDue;
  if (sound.on) start();
}

export function toggle() {
  sound.on = !sound.on;
  localStorage.setItem("vad.sound", sound.on ? "1" : "0");
  if (sound.on) {
    start();
    play();
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
  timer ??= setInterval(() => due() && play(), 4000);
  const wake = () => context.resume();
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, wake, { once: true });
}

function play() {
  if (context.state !== "running") return void context.resume();
  [[880, 0], [660, 0.22]].forEach(([pitch, after]) => {
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
