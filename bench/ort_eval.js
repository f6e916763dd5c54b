// Classifiers in ONNX Runtime: how many samples each model gets right, how long a run takes. For bench/prune.py; prints a line of JSON a model.
//
// usage: node ort_eval.js RUNTIME_FOLDER ARRAYS.npz LABELS.npy [--time] MODEL.onnx…
//
// RUNTIME_FOLDER/node_modules holds onnxruntime-node (see tests/interop/onnx_runtime.js). Samples lie along the first axis of the one array; a
// model whose first axis is fixed to one gets them singly. {"model", "right", "n", "tops"}: tops is the class of each sample. With --time also "ms",
// the least CPU time of a run of one sample, over blocks of 20, all models taken in turns, one thread.
'use strict';
const path = require('path');
const {runtime} = require('../tests/interop/ort_inputs.js');
const {readNpz, readNpy} = require('../tests/interop/npz.js');

const args = process.argv.slice(2), time = args.includes('--time');
const [home, arrays, labelFile, ...models] = args.filter(a => a !== '--time');

// Samples of x from a to b as a tensor for the input.
function part(ort, meta, x, a, b) {
  const each = x.dims.slice(1).reduce((p, q) => p * q, 1);
  const dims = meta.shape.length === x.dims.length ? [b - a, ...x.dims.slice(1)] : x.dims.slice(1);
  return new ort.Tensor(meta.type, x.data.subarray(a * each, b * each), dims);
}

function top(values, from, n) {
  let best = 0;
  for (let k = 1; k < n; k++) if (values[from + k] > values[from + best]) best = k;
  return best;
}

async function classes(ort, session, x) {
  const meta = session.inputMetadata[0], n = x.dims[0], step = typeof meta.shape[0] === 'number' && meta.shape[0] > 0 ? 1 : 50, tops = [];
  for (let a = 0; a < n; a += step) {
    const b = Math.min(n, a + step), out = await session.run({[meta.name]: part(ort, meta, x, a, b)});
    const y = out[session.outputNames[0]], width = y.data.length / (b - a);
    for (let i = 0; i < b - a; i++) tops.push(top(y.data, i * width, width));
  }
  return tops;
}

async function main() {
  const ort = runtime([home]);
  if (!ort) throw new Error(`no onnxruntime-node in ${home}`);
  const x = Object.values(readNpz(arrays))[0], labels = readNpy(labelFile).data, sessions = [], rows = [];
  for (const file of models) {
    const session = await ort.InferenceSession.create(path.resolve(file), {intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4});
    const tops = await classes(ort, session, x);
    rows.push({model: file, right: tops.filter((t, i) => t === Number(labels[i])).length, n: tops.length, tops: tops.join(''), ms: Infinity});
    sessions.push(session);
  }
  for (let round = 0; time && round < 40; round++)
    for (let k = 0; k < sessions.length; k++) {
      const meta = sessions[k].inputMetadata[0], feeds = {[meta.name]: part(ort, meta, x, 0, 1)};
      const begin = process.cpuUsage();
      for (let i = 0; i < 20; i++) await sessions[k].run(feeds);
      const end = process.cpuUsage(begin);
      rows[k].ms = Math.min(rows[k].ms, (end.user + end.system) / 20e3);
    }
  for (const row of rows) console.log(JSON.stringify(time ? row : {...row, ms: undefined}));
}

main().catch(e => { console.error(String(e)); process.exitCode = 1; });
