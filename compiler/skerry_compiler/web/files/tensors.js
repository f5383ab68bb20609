// Tensors by the names of the Open Inference Protocol; FP16 stands as its bits.
export const ARRAYS = {
  BOOL: Uint8Array, UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: BigUint64Array,
  INT8: Int8Array, INT16: Int16Array, INT32: Int32Array, INT64: BigInt64Array,
  FP16: Uint16Array, FP32: Float32Array, FP64: Float64Array,
};

/** What keeps a model from loading or running, in one line. */
export class ModelError extends Error {
  name = "ModelError";
}

export const elements = spec => spec.shape.reduce((product, extent) => product * extent, 1);

/** Return the inputs in the order of their specs, each as the array of its type; refuse what does not fit. */
export function taken(given, specs) {
  if (given === null || typeof given !== "object") throw new ModelError("inputs are an object of arrays by name");
  const unknown = Object.keys(given).find(name => !specs.some(spec => spec.name === name));
  if (unknown !== undefined)
    throw new ModelError(`no input ${unknown}; there are ${specs.map(spec => spec.name).join(", ") || "none"}`);
  return specs.map(spec => {
    const {name, dtype, shape} = spec, kind = ARRAYS[dtype];
    if (!Object.hasOwn(given, name)) throw new ModelError(`the input ${name} is missing: ${dtype}[${shape}]`);
    let found = given[name];
    if (Array.isArray(found)) {
      const one = kind === BigInt64Array || kind === BigUint64Array ? BigInt : Number;
      try {
        if (!found.every(each => ["number", "bigint", "boolean"].includes(typeof each))) throw new Error("not flat");
        found = kind.from(found, one);
      } catch (error) {
        throw new ModelError(`the input ${name} is no flat list of ${dtype}`);
      }
    }
    if (!(found instanceof kind)) throw new ModelError(`the input ${name} is no ${kind.name} and no list of numbers`);
    if (found.length !== elements(spec))
      throw new ModelError(`the input ${name} has ${found.length} elements, ${dtype}[${shape}] takes ${elements(spec)}`);
    return found;
  });
}

/** Return a file's bytes from an address or as they are given; refuse what is not the file of this package. */
export async function content(source, file) {
  let bytes;
  if (source instanceof ArrayBuffer) bytes = new Uint8Array(source);
  else if (ArrayBuffer.isView(source)) bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  else {
    const answer = await fetch(source);
    if (!answer.ok) throw new ModelError(`${file.name} cannot be fetched: the server says ${answer.status}`);
    bytes = new Uint8Array(await answer.arrayBuffer());
  }
  if (bytes.length !== file.bytes)
    throw new ModelError(`${file.name} is not the file of this package: ${bytes.length} bytes, not ${file.bytes}`);
  // Only pages from https and from this machine may compute digests.
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const hex = [...digest].map(each => each.toString(16).padStart(2, "0")).join("");
    if (hex !== file.sha256) throw new ModelError(`${file.name} is not the file of this package: another digest`);
  }
  return bytes;
}
