// Models exported by 'quern export --to onnx…', in ONNX Runtime: they load, and compute what our own executor computes of the same file.
//
// usage: node export_onnx.js QUERN ONNX_RUN BUILD_FOLDER SHARED [--table] [NAME]
//
// Every model is run dense and exported, by ONNX Runtime (at its level "basic": above it blocks of integers may be multiplied with activations that
// it rounds to 8 bits) and by ONNX_RUN, over the same seeded inputs. Two measures, each over all float outputs, and at most 1e-3:
//   apart      max |ours - theirs| / max |theirs|, of the exported model
//   error      the relative error of the exported model, rms(exported - dense) / rms(dense), measured here and there: their difference over theirs
// (where it is more than rounding may make of it: 5e-6, and 2e-7 over rms(dense), for sigmoids that are good to 1e-7). "all" is the relative error at the runtime's default level. Package and models as for
// onnx_runtime.js; the model in testdata is always there.
'use strict';
const fs = require('fs'), os = require('os'), path = require('path');
const {spawnSync} = require('child_process');
const {runtime, find, DTYPES, ARRAYS, inputsOf} = require('./ort_inputs.js');

const LIMIT = 1e-3;
const VARIANTS = [['onnx'], ['onnx:f16'], ['onnx:matmulnbits', '--bits=8'], ['onnx:matmulnbits', '--bits=4'],
  ['onnx:matmulnbits', '--bits=4', '--asymmetric=no'], ['onnx:matmulnbits', '--bits=2'], ['onnx:qdq'], ['onnx:qdq4']];
const MORE = ['burn_mnist.onnx', 'resnet20.onnx', 'mnist-net_256x4.onnx', 'cifar10_large.onnx', 'sri_resnet_a.onnx', 'NN_rul_full_window_40.onnx',
  'AllInOne.onnx', 'TinyYOLO.onnx', 'pgd_2_3_16.onnx', 'ACASXU_run2a_1_1_batch_2000.onnx', 'vit_tiny.onnx', 'Ultraface_version-RFB-320.onnx'];
const args = process.argv.slice(2), table = args.includes('--table');
const [quern, exe, build, shared, only] = args.filter(a => a !== '--table');
const homes = [process.env.QUERN_NPM, '/tmp/quern-prune', build].filter(Boolean);
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'quern-export-'));

function ours(file, feeds) {
  const dir = fs.mkdtempSync(path.join(scratch, 'run-'));
  const lines = Object.entries(feeds).map(([name, t], i) => {
    fs.writeFileSync(path.join(dir, 'in' + i), Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    return [name, DTYPES[t.type], t.dims.length, ...t.dims].join('\t');
  });
  fs.writeFileSync(path.join(dir, 'inputs'), lines.join('\n') + '\n');
  const run = spawnSync(exe, [file, dir, '1'], {encoding: 'utf8'}), outputs = {};
  let i = 0;
  for (const line of (run.stdout || '').split('\n')) {
    const [what, ...rest] = line.split('\t');
    if (what === 'out') outputs[rest[0]] = {type: rest[1], dims: rest.slice(2).map(Number), bytes: fs.readFileSync(path.join(dir, 'out' + i++))};
    else if (what === 'error') throw new Error('ours: ' + rest.join(' '));
  }
  fs.rmSync(dir, {recursive: true});
  if (run.status !== 0) throw new Error(`ours: ended with ${run.status === null ? run.signal : run.status}`);
  return outputs;
}

// All floats of the outputs, one behind the other, in the order of the names.
function floats(outputs, names, mine) {
  const all = [];
  for (const name of names) {
    const t = outputs[name];
    if (!t) throw new Error(`output '${name}' is not there`);
    if (!mine && t.type === 'float32') all.push(t.data);
    if (mine && t.type === 'F32') all.push(new Float32Array(new Uint8Array(t.bytes).buffer));
  }
  const out = new Float64Array(all.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const a of all) { out.set(a, at); at += a.length; }
  return out;
}

function apart(a, b) {
  let most = 0, off = 0;
  if (a.length !== b.length) throw new Error(`${a.length} values, not ${b.length}`);
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) { if (Number.isFinite(b[i])) most = Math.max(most, Math.abs(b[i])); continue; }
    most = Math.max(most, Math.abs(b[i]));
    off = Math.max(off, Number.isNaN(a[i] - b[i]) ? Infinity : Math.abs(a[i] - b[i]));
  }
  return off === 0 ? 0 : off / (most || 1);
}

function error(exported, dense) {
  let e = 0, d = 0;
  for (let i = 0; i < dense.length; i++) {
    if (!Number.isFinite(dense[i])) continue;
    e += (exported[i] - dense[i]) ** 2;
    d += dense[i] ** 2;
  }
  return d > 0 ? Math.sqrt(e / d) : Math.sqrt(e);
}

const rms = a => Math.sqrt(a.reduce((s, x) => s + (Number.isFinite(x) ? x * x : 0), 0) / (a.length || 1));
const text = x => (x === 0 ? '0' : x.toExponential(1));

async function theirs(ort, file, feeds, level) {
  const s = await ort.InferenceSession.create(file, {graphOptimizationLevel: level, intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4});
  const out = await s.run(feeds);
  await s.release();
  return out;
}

function place(file) {
  const known = {'resnet20.onnx': 'nets', 'mnist-net_256x4.onnx': 'nets', 'cifar10_large.onnx': 'nets', 'sri_resnet_a.onnx': 'nets', 'pgd_2_3_16.onnx': 'nets'}[file];
  return (known && [path.join('/tmp/quern-prune', known, file)].find(p => fs.existsSync(p))) || find(file, homes, shared);
}

async function check(ort, model, file, dense, variant) {
  const out = path.join(scratch, 'out.onnx');
  const run = spawnSync(quern, ['export', file, '--to', variant[0], ...variant.slice(1), '-o', out, '--force', '--json'], {encoding: 'utf8'});
  if (run.status === 4) return {none: true};
  if (run.status !== 0) throw new Error(`export ends with ${run.status}: ${run.stderr.trim().slice(0, 200)}`);
  const report = JSON.parse(run.stdout).outputs[0];
  const rounded = report.tensors.filter(t => /^int|^F16$/.test(t.given) && variant[0] !== 'onnx');
  const weights = report.tensors.reduce((n, t) => n + t.weights, 0), done = rounded.reduce((n, t) => n + t.weights, 0);
  if (variant[0] !== 'onnx' && !done) return {none: true};
  const ex = floats(await theirs(ort, out, dense.feeds, 'basic'), dense.names), mine = floats(ours(out, dense.feeds), dense.names, true);
  const all = floats(await theirs(ort, out, dense.feeds, 'all'), dense.names);
  const r = {apart: apart(mine, ex), theirs: error(ex, dense.theirs), ours: error(mine, dense.ours), all: error(all, dense.theirs),
    bytes: report.bytes, share: weights ? done / weights : 0};
  const off = Math.abs(r.theirs - r.ours);
  r.off = off > 5e-6 + 2e-7 / rms(dense.theirs) ? off / r.theirs : 0;
  r.bad = !(r.apart <= LIMIT) || !(r.off <= LIMIT);
  return r;
}

async function main() {
  const ort = runtime(homes);
  if (!ort) {
    console.log('skipped: no onnxruntime-node (see the head of tests/interop/onnx_runtime.js, and QUERN_NPM)');
    return 77;
  }
  const models = [{name: 'MNIST (testdata)', path: path.join(__dirname, '../../testdata/mnist/mnist.onnx'), scale: 60}]
    .concat(JSON.parse(fs.readFileSync(path.join(__dirname, 'onnx_models.json'), 'utf8')))
    .concat(JSON.parse(fs.readFileSync(path.join(__dirname, 'prune_models.json'), 'utf8')).filter(m => MORE.includes(m.file)));
  let n = 0, bad = 0;
  if (table) console.log('| model | variant | weights in it | file | error | at level all | error here / there | apart |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |');
  const seen = new Set();
  for (const model of models) {
    const file = model.path || place(model.file);
    if (!file || (only && !model.name.includes(only)) || seen.has(path.basename(file)) && !model.path || fs.statSync(file).size > 120e6) continue;
    seen.add(path.basename(file));
    let dense;
    try {
      const s = await ort.InferenceSession.create(file, {logSeverityLevel: 4}), feeds = inputsOf(ort, s, model);
      const t = await theirs(ort, file, feeds, 'basic');
      const names = Object.keys(t);
      dense = {feeds, names, theirs: floats(t, names), ours: floats(ours(file, feeds), names, true), bytes: fs.statSync(file).size};
    } catch (e) {
      console.log(`${model.name}: not run: ${String(e.message).slice(0, 120)}`);
      continue;
    }
    for (const variant of VARIANTS) {
      let r;
      try {
        r = await check(ort, model, file, dense, variant);
      } catch (e) {
        n++, bad++;
        console.log(`${model.name}, ${variant.join(' ')}: ${String(e.message).slice(0, 300)}`);
        continue;
      }
      if (r.none) continue;
      n++;
      bad += r.bad;
      const share = `${Math.round(100 * r.share)} %`, size = `${(100 * r.bytes / dense.bytes).toFixed(1)} %`;
      if (table) console.log(`| ${model.name} | ${variant.join(' ').replace('onnx:', '')} | ${share} | ${size} | ${text(r.theirs)} | ${text(r.all)} | ${text(r.off)} | ${text(r.apart)}${r.bad ? ' **bad**' : ''} |`);
      else console.log(`${model.name}, ${variant.join(' ')}: ${r.bad ? 'BAD: ' : ''}error ${text(r.theirs)} (all: ${text(r.all)}), differs here by ${text(r.off)}, apart ${text(r.apart)}`);
    }
  }
  console.log(`${n} exports, ${bad} that do not load or compute something else`);
  return bad ? 1 : 0;
}

main().then(code => { process.exitCode = code; }, e => { console.log(String(e.stack)); process.exitCode = 1; })
  .finally(() => fs.rmSync(scratch, {recursive: true, force: true}));
