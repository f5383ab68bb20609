/** What the model takes: one row, an array for each input, elements in C order. */
export interface Inputs {
INPUTS
}

/** What the model gives: one row, an array for each output. */
export interface Outputs {
OUTPUTS
}

export interface Tensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

export interface File {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** What the bundle says of itself. */
export declare const about: {
  readonly model: string;
  readonly version: string;
  readonly release: number;
  readonly bundle: string;
  readonly variant: string;
  readonly engine: string;
  readonly precision: string;
  readonly file: File;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly labels: readonly string[];
  readonly labelOutput: string | null;
  readonly scoreOutput: string | null;
};

/** What keeps the model from loading or running, in one line. */
export declare class ModelError extends Error {}

export interface Model {
  /** Answer one row. Throws ModelError where the inputs do not fit or the model stops. */
  run(inputs: Inputs): Promise<Outputs>;
  /** Give back what the model holds. */
  close(): Promise<void>;
}

export interface Options {
  /** Where the model's file is, or its bytes; beside this module if left out. */
  source?: string | URL | ArrayBuffer | ArrayBufferView;OPTIONS
}

/** Fetch, check and start the model. Throws ModelError where it is not this package's file, or the browser lacks SIMD. */
export declare function load(options?: Options): Promise<Model>;
