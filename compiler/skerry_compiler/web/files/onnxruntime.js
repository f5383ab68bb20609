import * as ort from "onnxruntime-web/wasm";
import about from "./about.js";
import {ARRAYS, ModelError, content, taken} from "./tensors.js";

export {about, ModelError};

const TYPES = {
  BOOL: "bool", UINT8: "uint8", UINT16: "uint16", UINT32: "uint32", UINT64: "uint64", INT8: "int8", INT16: "int16",
  INT32: "int32", INT64: "int64", FP16: "float16", FP32: "float32", FP64: "float64",
};

/** Fetch the model (or take its bytes as `source`), check and start it. More than one thread takes a page that is
 *  cross-origin isolated. */
export async function load({source = new URL("./model.onnx", import.meta.url), threads = 1} = {}) {
  const bytes = await content(source, about.file);
  ort.env.wasm.numThreads = threads;
  try {
    return new Model(await ort.InferenceSession.create(bytes, {executionProviders: ["wasm"], ...about.session}));
  } catch (error) {
    throw new ModelError(`${about.file.name} does not load: ${error.message ?? error}`);
  }
}

class Model {
  #session;

  constructor(session) {
    this.#session = session;
  }

  /** Return the answers to one row, arrays by name. */
  async run(inputs) {
    const arrays = taken(inputs, about.inputs);
    const feeds = about.inputs.map(({name, dtype, shape}, i) => [name, new ort.Tensor(TYPES[dtype], arrays[i], shape)]);
    let found;
    try {
      found = await this.#session.run(Object.fromEntries(feeds));
    } catch (error) {
      throw new ModelError(`the model stopped: ${error.message ?? error}`);
    }
    const plain = ({data}, dtype) =>
      dtype === "FP16" ? new Uint16Array(data.buffer, data.byteOffset, data.length) : ARRAYS[dtype].from(data);
    return Object.fromEntries(about.outputs.map(({name, dtype}) => [name, plain(found[name], dtype)]));
  }

  /** Give back what the model holds. */
  async close() {
    await this.#session.release();
  }
}
