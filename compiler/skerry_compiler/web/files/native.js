import about from "./about.js";
import {ARRAYS, ModelError, content, elements, taken} from "./tensors.js";

export {about, ModelError};

// () -> v128: i32.const 0, i8x16.splat, i8x16.popcnt
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);
const PAGE = 65536, ALIGNMENT = 64;

/** Fetch the model (or take its bytes as `source`), check and start it. */
export async function load({source = new URL("./model.wasm", import.meta.url)} = {}) {
  if (!WebAssembly.validate(SIMD))
    throw new ModelError("no WebAssembly SIMD here: Chrome 91, Firefox 89, Safari 16.4 and Node 16.4 have it");
  const bytes = await content(source, about.file);
  try {
    return new Model((await WebAssembly.instantiate(bytes, {})).instance.exports);
  } catch (error) {
    throw new ModelError(`${about.file.name} does not load: ${error.message}`);
  }
}

class Model {
  #run;
  #memory;
  #places = [];
  #tables;

  constructor({memory, skerry_run: run}) {
    this.#run = run;
    this.#memory = memory;
    let end = memory.buffer.byteLength;
    for (const spec of [...about.inputs, ...about.outputs]) {
      this.#places.push(end);
      end += Math.ceil((elements(spec) * ARRAYS[spec.dtype].BYTES_PER_ELEMENT) / ALIGNMENT) * ALIGNMENT;
    }
    this.#tables = end;
    end += 4 * this.#places.length;
    memory.grow(Math.ceil((end - memory.buffer.byteLength) / PAGE));
    new Uint32Array(memory.buffer, this.#tables, this.#places.length).set(this.#places);
  }

  /** Return the answers to one row, arrays by name. */
  async run(inputs) {
    if (this.#run === null) throw new ModelError("the model is closed");
    const {buffer} = this.#memory, sources = about.inputs.length;
    taken(inputs, about.inputs).forEach((array, i) => {
      new array.constructor(buffer, this.#places[i], array.length).set(array);
    });
    let status;
    try {
      status = this.#run(this.#tables, this.#tables + 4 * sources);
    } catch (error) {
      throw new ModelError(`the model stopped: ${error.message}`);
    }
    if (status) throw new ModelError(`the model says ${status}`);
    const answers = about.outputs.map((spec, i) => [
      spec.name, new ARRAYS[spec.dtype](buffer, this.#places[sources + i], elements(spec)).slice(),
    ]);
    return Object.fromEntries(answers);
  }

  /** Give back what the model holds. */
  async close() {
    this.#run = this.#memory = null;
  }
}
