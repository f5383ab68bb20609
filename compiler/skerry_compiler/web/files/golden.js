// Vectors with known answers, and how near an answer must be.
import about from "./about.js";
import {ARRAYS, content, elements} from "./tensors.js";

const WARM_RUNS = 60, WARM_MS = 500, MOST_WARM_MS = 3000, MEASURED_MS = 600, BATCH_MS = 4;

const width = spec => elements(spec) * ARRAYS[spec.dtype].BYTES_PER_ELEMENT;

/** Return rows of tensors from their bytes, one row after another. */
export function rows(bytes, specs, count) {
  let at = 0;
  const next = spec => new ARRAYS[spec.dtype](bytes.slice(at, (at += width(spec))).buffer);
  return Array.from({length: count}, () => Object.fromEntries(specs.map(spec => [spec.name, next(spec)])));
}

/** Return the vectors' inputs and known answers. */
export async function vectors() {
  const {count, inputs, outputs} = about.golden;
  const [given, known] = await Promise.all(
    [inputs, outputs].map(file => content(new URL(file.name, import.meta.url), file)),
  );
  return {given: rows(given, about.inputs, count), known: rows(known, about.outputs, count)};
}

/** Return why an answer is not the known one, "" where it is. */
export function difference(found, known) {
  const {atol, rtol, sameLabel} = about.golden;
  for (const spec of about.outputs) {
    const {name, dtype} = spec, ours = numbers(found[name], dtype), theirs = numbers(known[name], dtype);
    if (name === about.labelOutput) {
      if (sameLabel && ours.some((each, i) => each !== theirs[i])) return `label ${ours}, not ${theirs}`;
      continue;
    }
    for (let i = 0; i < theirs.length; i++)
      if (!(ours[i] === theirs[i] || Math.abs(ours[i] - theirs[i]) <= atol + rtol * Math.abs(theirs[i])))
        return `${name}[${i}] is ${ours[i]}, not ${theirs[i]}`;
    const last = spec.shape.at(-1) ?? 1;
    for (let at = 0; sameLabel && name === about.scoreOutput && at < theirs.length; at += last)
      if (best(ours, at, last) !== best(theirs, at, last)) return `the best class is ${best(ours, at, last)}`;
  }
  return "";
}

/** Return milliseconds of one inference: of the quietest of many batches, each long enough for a coarse clock and short
 *  enough to find a quiet moment, once the engine has had time to compile what is hot. */
export async function milliseconds(model, row) {
  const batch = async count => {
    const from = performance.now();
    for (let i = 0; i < count; i++) await model.run(row);
    return performance.now() - from;
  };
  const start = performance.now(), passed = () => performance.now() - start;
  for (let runs = 0; passed() < MOST_WARM_MS && (runs < WARM_RUNS || passed() < WARM_MS); runs++) await model.run(row);
  let count = 1, took = await batch(count);
  while (took < BATCH_MS) took = await batch((count *= 2));
  let least = took;
  for (const end = performance.now() + MEASURED_MS; performance.now() < end; ) least = Math.min(least, await batch(count));
  return least / count;
}

function best(scores, at, count) {
  let place = 0;
  for (let i = 1; i < count; i++) if (scores[at + i] > scores[at + place]) place = i;
  return place;
}

function numbers(array, dtype) {
  return Array.from(array, dtype === "FP16" ? half : Number);
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
