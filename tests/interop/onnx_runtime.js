// Third-party models here and in ONNX Runtime, over the same seeded inputs: every output must agree.
//
// usage: node onnx_runtime.js ONNX_RUN BUILD_FOLDER SHARED [-t THREADS] [--table] [NAME]
//
// Inputs are normal numbers, times "scale" and from "seed" of onnx_models.json: chosen so that a sigmoid at the end is not
// saturated (ONNX Runtime computes it to about 1e-7 absolute: below -17 it gives 0).
// Measure, per output: max |a - b| / max |b|, b being ONNX Runtime's; it must be at most 1e-4. Integers and truth values must be equal.
// Times are CPU time with one thread, the least of 2 to 20 runs on either side: no benchmark, but a sign when something is slow.
// The runtime is a package that the project does not depend on:
//     npm i --ignore-scripts onnxruntime-node@1.30.0
// in the folder that QUERN_NPM names, or in BUILD_FOLDER; models lie in onnx-models there (fetch_onnx_models.sh), and in SHARED.
'use strict';
const fs = require('fs'), os = require('os'), path = require('path');
const {spawnSync} = require('child_process');
const {runtime, find, ARRAYS, DTYPES, inputsOf} = require('./ort_inputs.js');

const LIMIT = 1e-4;
const args = process.argv.slice(2);
let threads = 1, table = false;
for (let i = 0; i < args.length;)
  if (args[i] === '-t') { threads = Number(args[i + 1]); args.splice(i, 2); }
  else if (args[i] === '--table') { table = true; args.splice(i, 1); }
  else i++;
const [exe, build, shared, only] = args;
const homes = [process.env.QUERN_NPM, build].filter(Boolean);

function ours(file, feeds) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'quern-onnx-'));
  try {
    const lines = Object.entries(feeds).map(([name, t], i) => {
      fs.writeFileSync(path.join(dir, 'in' + i), Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength));
      return [name, DTYPES[t.type], t.dims.length, ...t.dims].join('\t');
    });
    fs.writeFileSync(path.join(dir, 'inputs'), lines.join('\n') + '\n');
    const run = spawnSync(exe, [file, dir, String(threads)], {encoding: 'utf8'}), result = {outputs: {}};
    let i = 0;
    for (const line of (run.stdout || '').split('\n')) {
      const [what, ...rest] = line.split('\t');
      if (what === 'out')
        result.outputs[rest[0]] = {dtype: rest[1], dims: rest.slice(2).map(Number), bytes: fs.readFileSync(path.join(dir, 'out' + i++))};
      else if (what) result[what] = rest.join(' ');
    }
    if (run.status !== 0 && !result.error) result.error = `ended with ${run.status === null ? run.signal : run.status}`;
    return result;
  } finally {
    fs.rmSync(dir, {recursive: true});
  }
}

function difference(name, theirs, mine) {
  if (!mine) return `output '${name}' is not there`;
  const type = DTYPES[theirs.type];
  if (mine.dtype !== type) return `output '${name}' is ${mine.dtype}, not ${type}`;
  if (mine.dims.join() !== theirs.dims.join()) return `output '${name}' is (${mine.dims}), not (${theirs.dims})`;
  const copy = new Uint8Array(mine.bytes), a = new ARRAYS[theirs.type](copy.buffer), b = theirs.data;
  let most = 0, apart = 0;
  for (let i = 0; i < b.length; i++) {
    const x = Number(a[i]), y = Number(b[i]);
    if (Number.isNaN(x) !== Number.isNaN(y)) return `value ${i} of '${name}' is ${x}, not ${y}`;
    if (Number.isNaN(x) || x === y) { most = Number.isNaN(y) || !Number.isFinite(y) ? most : Math.max(most, Math.abs(y)); continue; }
    most = Math.max(most, Math.abs(y));
    apart = Math.max(apart, Math.abs(x - y));
  }
  if (!theirs.type.startsWith('float')) return apart ? `output '${name}' differs by ${apart}` : 0;
  return apart === 0 ? 0 : apart / most;
}

async function main() {
  const ort = runtime(homes);
  if (!ort) {
    console.log('skipped: no onnxruntime-node (see the head of tests/interop/onnx_runtime.js, and QUERN_NPM)');
    return 77;
  }
  let n = 0, bad = 0;
  if (table) console.log('| model | from | operators | outputs | max relative error | CPU time, ours / ORT |\n| --- | --- | --- | --- | --- | --- |');
  for (const model of JSON.parse(fs.readFileSync(path.join(__dirname, 'onnx_models.json'), 'utf8'))) {
    const file = find(model.file, homes, shared);
    if (!file || (only && !model.name.includes(only))) continue;
    n++;
    let theirs, feeds, ms;
    try {
      const session = await ort.InferenceSession.create(file, {intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 4});
      feeds = inputsOf(ort, session, model);
      ms = Infinity;
      for (let round = 0, all = 0; round < 20 && (round < 2 || all < 500); round++) {
        const begin = process.cpuUsage();
        theirs = await session.run(feeds);
        const end = process.cpuUsage(begin), took = (end.user + end.system) / 1e3;
        ms = Math.min(ms, took);
        all += took;
      }
    } catch (e) {
      bad++;
      console.log(`${model.name}: ONNX Runtime does not run it: ${String(e.message).slice(0, 200)}`);
      continue;
    }
    const mine = ours(file, feeds);
    let worst = 0, why = mine.error && `cannot be run: ${mine.error}`, n_out = 0;
    for (const [name, t] of Object.entries(theirs)) {
      if (why) break;
      n_out++;
      const d = difference(name, t, mine.outputs[name]);
      if (typeof d === 'string') why = d;
      else worst = Math.max(worst, d);
    }
    if (!why && !(worst <= LIMIT)) why = `relative error ${worst.toExponential(2)}`;
    bad += Boolean(why);
    const ratio = why ? '' : (Number(mine.ms) / ms).toFixed(2);
    if (table) console.log(`| ${model.name} | ${model.from} | ${mine.nodes || ''} | ${n_out} | ${why || worst.toExponential(1)} | ${ratio} |`);
    else console.log(`${model.name}: ${why || `${n_out} outputs, relative error at most ${worst.toExponential(2)}, CPU time ours / theirs ${ratio}`}`);
  }
  if (!n) {
    console.log('skipped: no models (tests/interop/fetch_onnx_models.sh)');
    return 77;
  }
  console.log(`${n} models, ${bad} other than in ONNX Runtime`);
  return bad ? 1 : 0;
}

main().then(code => { process.exitCode = code; }, e => { console.log(String(e)); process.exitCode = 1; });
