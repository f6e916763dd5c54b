// What the checks against ONNX Runtime share: where its package is, and inputs for a model that are the same everywhere.
'use strict';
const fs = require('fs'), path = require('path');

// The package is no dependency of the project: `npm i --ignore-scripts onnxruntime-node@1.30.0` in one of the folders `homes`.
function runtime(homes) {
  for (const home of homes) {
    const where = path.join(home, 'node_modules', 'onnxruntime-node');
    if (fs.existsSync(where)) return require(path.resolve(where));
  }
  return null;
}

// A model of the third parties: in onnx-models of one of the folders, or in SHARED.
function find(file, homes, shared) {
  const places = homes.map(h => path.join(h, 'onnx-models', file));
  const known = {'ch_PP-OCRv4_det_infer.onnx': 'ppocrv4', 'ch_PP-OCRv4_rec_infer.onnx': 'ppocrv4', 'magika.onnx': 'magika/model.onnx',
    'silero_vad_v5.onnx': 'silero-vad/silero_vad.onnx'}[file];
  if (known) places.push(path.join(shared, 'models', known.endsWith('.onnx') ? known : path.join(known, file)));
  return places.find(p => fs.existsSync(p));
}

// xorshift32, the same numbers everywhere; normal by the sum of twelve.
function source(seed) {
  let s = seed >>> 0 || 1;
  const next = () => { s ^= s << 13; s >>>= 0; s ^= s >>> 17; s ^= s << 5; s >>>= 0; return s / 4294967296; };
  return {next, normal: () => { let t = -6; for (let i = 0; i < 12; i++) t += next(); return t; }};
}

const ARRAYS = {float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array,
  bool: Uint8Array, int16: Int16Array, uint16: Uint16Array, uint32: Uint32Array};
const DTYPES = {float32: 'F32', float64: 'F64', int64: 'I64', int32: 'I32', uint8: 'U8', int8: 'I8', bool: 'BOOL', int16: 'I16',
  uint16: 'U16', uint32: 'U32'};

// model: {seed, scale, bytes, ints, dims} as the lists of models have them; all but dims may be absent.
function inputsOf(ort, session, model) {
  const feeds = {}, rng = source(model.seed || 20260101);
  for (const meta of session.inputMetadata) {
    const dims = (model.dims && model.dims[meta.name]) || meta.shape.map(d => (typeof d === 'number' && d > 0 ? d : 1));
    const n = dims.reduce((a, b) => a * b, 1), data = new ARRAYS[meta.type](n);
    for (let i = 0; i < n; i++) {
      if (model.ints && meta.name in model.ints)
        data[i] = meta.type === 'int64' ? BigInt(model.ints[meta.name]) : model.ints[meta.name];
      else if (meta.type.startsWith('float'))
        data[i] = rng.normal() * (model.scale || 1);
      else {
        const v = Math.floor(rng.next() * (model.bytes || 2));
        data[i] = meta.type === 'int64' ? BigInt(v) : v;
      }
    }
    feeds[meta.name] = new ort.Tensor(meta.type, data, dims);
  }
  return feeds;
}

module.exports = {runtime, find, ARRAYS, DTYPES, inputsOf};
