// Pruned ONNX models in ONNX Runtime: what preparing does must not change a model, and a model without channels must compute what the same
// model with zeros in their place computes. Both files are quern's; the judge is not.
//
// usage: node prune_runtime.js PRUNE_ONNX BUILD_FOLDER SHARED [--percent P] [--seed S] [--inner] [--table] [NAME]
//
// For each model of onnx_models.json and each *.onnx below onnx-models in BUILD_FOLDER or QUERN_NPM: prepared (constants computed, batch norms
// folded), then P % (40) of the exact groups of every family removed at random. Inputs are normal numbers; dimensions from onnx_models.json, else unknown
// ones are 1 in front, 64 behind axis 1, 16 else.
// Measure, over all float outputs: max |a - b| / max |b|, the latter taken as at least 0.05 (ONNX Runtime computes a sigmoid to about 1e-7 absolute). Prepared against original: at most 1e-4 (folding rounds each weight once more, and
// deep nets add that up); without against with zeros: at most 1e-5. A model whose zeros change nothing proves nothing, and is counted apart.
// The runtime is a package that the project does not depend on: npm i --ignore-scripts onnxruntime-node@1.30.0
'use strict';
const fs = require('fs'), os = require('os'), path = require('path');
const {spawnSync} = require('child_process');

const PREPARED = 1e-4, CUT = 1e-5, LEAST = 0.05;
const args = process.argv.slice(2), option = {percent: '40', seed: '1'};
let inner = false, table = false;
for (let i = 0; i < args.length;)
  if (args[i] === '--percent' || args[i] === '--seed') { option[args[i].slice(2)] = args[i + 1]; args.splice(i, 2); }
  else if (args[i] === '--inner') { inner = true; args.splice(i, 1); }
  else if (args[i] === '--table') { table = true; args.splice(i, 1); }
  else i++;
const [exe, build, shared, only] = args;
const homes = [process.env.QUERN_NPM, build].filter(Boolean);

function runtime() {
  for (const home of homes) {
    const where = path.join(home, 'node_modules', 'onnxruntime-node');
    if (fs.existsSync(where)) return require(path.resolve(where));
  }
  return null;
}

function models() {
  const known = new Map(), list = [];
  for (const m of JSON.parse(fs.readFileSync(path.join(__dirname, 'onnx_models.json'), 'utf8'))) known.set(m.file, m);
  const add = file => {
    const name = path.basename(file);
    if (!list.some(m => m.base === name)) list.push({...known.get(name), base: name, path: file});
  };
  for (const home of homes) {
    const dir = path.join(home, 'onnx-models');
    if (fs.existsSync(dir)) for (const f of fs.readdirSync(dir).sort()) if (f.endsWith('.onnx')) add(path.join(dir, f));
  }
  for (const f of ['ppocrv4/ch_PP-OCRv4_det_infer.onnx', 'ppocrv4/ch_PP-OCRv4_rec_infer.onnx']) {
    const p = path.join(shared || '', 'models', f);
    if (fs.existsSync(p)) add(p);
  }
  const magika = path.join(shared || '', 'models/magika/model.onnx');
  if (fs.existsSync(magika) && !list.some(m => m.base === 'magika.onnx')) list.push({base: 'magika.onnx', path: magika});
  return list.filter(m => !only || m.base.includes(only));
}

function random(seed) {
  let s = seed >>> 0 || 1;
  const next = () => { s ^= s << 13; s >>>= 0; s ^= s >>> 17; s ^= s << 5; s >>>= 0; return s / 4294967296; };
  return {next, normal: () => { let t = -6; for (let i = 0; i < 12; i++) t += next(); return t; }};
}

const ARRAYS = {float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array,
  bool: Uint8Array, int16: Int16Array, uint16: Uint16Array, uint32: Uint32Array};

function inputsOf(ort, session, model) {
  const feeds = {}, rng = random(model.seed || 20260101);
  for (const meta of session.inputMetadata) {
    const dims = (model.dims && model.dims[meta.name]) ||
      meta.shape.map((d, k) => (typeof d === 'number' && d > 0 ? d : k === 0 ? 1 : k >= 2 ? 64 : 16));
    const n = dims.reduce((a, b) => a * b, 1), data = new ARRAYS[meta.type](n);
    for (let i = 0; i < n; i++)
      if (model.ints && meta.name in model.ints) data[i] = meta.type === 'int64' ? BigInt(model.ints[meta.name]) : model.ints[meta.name];
      else if (meta.type.startsWith('float')) data[i] = rng.normal() * (model.scale || 1);
      else data[i] = meta.type === 'int64' ? BigInt(Math.floor(rng.next() * 2)) : Math.floor(rng.next() * 2);
    feeds[meta.name] = new ort.Tensor(meta.type, data, dims);
  }
  return feeds;
}

async function open(ort, file) {
  return ort.InferenceSession.create(file, {intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4});
}

// Over all outputs; a string when they are not of one kind.
function apart(a, b) {
  let worst = 0;
  for (const name of Object.keys(b)) {
    if (!a[name] || a[name].dims.join() !== b[name].dims.join()) return `output '${name}' is of another shape`;
    if (!b[name].type.startsWith('float')) continue;
    const x = a[name].data, y = b[name].data;
    let most = 0, off = 0;
    for (let i = 0; i < y.length; i++) {
      if (Number.isNaN(x[i]) !== Number.isNaN(y[i])) return `value ${i} of '${name}' is ${x[i]}, not ${y[i]}`;
      if (Number.isFinite(y[i])) most = Math.max(most, Math.abs(y[i]));
      if (!Number.isNaN(y[i]) && x[i] !== y[i]) off = Math.max(off, Math.abs(x[i] - y[i]));
    }
    worst = Math.max(worst, off / Math.max(most, LEAST));
  }
  return worst;
}

function tool(...rest) {
  const run = spawnSync(exe, rest, {encoding: 'utf8', timeout: 600000}), said = {status: run.status};
  for (const line of (run.stdout || '').split('\n')) {
    const at = line.indexOf(' ');
    if (at > 0) said[line.slice(0, at)] = line.slice(at + 1);
  }
  return said;
}

async function judge(ort, model, dir) {
  const p = name => path.join(dir, name);
  for (const f of ['p.onnx', 'c.onnx', 'z.onnx']) fs.rmSync(p(f), {force: true});
  let dense;
  try {
    dense = await open(ort, model.path);
  } catch (e) {
    return {skip: 'ONNX Runtime does not open it'};
  }
  const feeds = inputsOf(ort, dense, model), y = await dense.run(feeds).catch(() => null);
  if (!y) return {skip: 'ONNX Runtime does not run it'};
  const prepared = tool('prepare', model.path, p('p.onnx'));
  if (prepared.error) return {skip: prepared.status === 4 && prepared.error, why: prepared.error};
  const from = prepared.changed === '1' ? p('p.onnx') : model.path, r = {norms: prepared.norms};
  if (prepared.changed === '1') {
    r.prepared = apart(await (await open(ort, from)).run(feeds), y);
    if (!(r.prepared <= PREPARED)) return {...r, why: `prepared: ${r.prepared}`};
  }
  const cut = tool('cut', from, p('c.onnx'), p('z.onnx'), option.percent, option.seed, ...(inner ? ['inner'] : []), ...(model.dims ? ['size=96'] : []));
  if (cut.error && !fs.existsSync(p('z.onnx'))) return {...r, skip: cut.status === 4 && cut.error, why: cut.error};
  const zeroed = await (await open(ort, p('z.onnx'))).run(feeds), small = await (await open(ort, p('c.onnx'))).run(feeds);
  Object.assign(r, {params: cut.params.split(' ').map(Number), families: cut.families, gone: cut.gone, groups: cut.groups, diff: apart(small, zeroed),
    moved: apart(zeroed, y)});
  if (!(r.diff <= CUT)) r.why = `cut: ${r.diff}`;
  return r;
}

async function main() {
  const ort = runtime(), list = models();
  if (!ort || !list.length) {
    console.log('skipped: ' + (ort ? 'no models (tests/interop/fetch_onnx_models.sh, fetch_prune_models.sh)'
                                   : 'no onnxruntime-node (see the head of tests/interop/prune_runtime.js, and QUERN_NPM)'));
    return 77;
  }
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'quern-prune-'));
  let n = 0, bad = 0, idle = 0, skipped = 0;
  if (table) console.log('| model | families | groups gone | parameters | norms folded | prepared | cut |\n| --- | --- | --- | --- | --- | --- | --- |');
  try {
    for (const model of list) {
      let r;
      try { r = await judge(ort, model, dir); } catch (e) { r = {why: String(e.message).slice(0, 300)}; }
      const shown = x => (typeof x === 'number' ? x.toExponential(1) : x === undefined ? '-' : x);
      if (r.skip) { skipped++; console.log(`${model.base}: skipped: ${r.skip}`); continue; }
      n++;
      bad += Boolean(r.why);
      idle += !r.why && !(r.moved > 1e-3);
      if (r.why) console.log(`${model.base}: ${r.why}`);
      else if (table) console.log(`| ${model.base} | ${r.families} | ${r.gone} of ${r.groups} | ${r.params.join(' → ')} | ${r.norms} | ${shown(r.prepared)} | ${shown(r.diff)} |`);
      else console.log(`${model.base}: ${r.families} families, ${r.gone} of ${r.groups} groups gone, ${r.params.join(' -> ')} parameters; ` +
        `prepared ${shown(r.prepared)}, cut ${shown(r.diff)}, moved ${shown(r.moved)}`);
    }
  } finally {
    fs.rmSync(dir, {recursive: true});
  }
  console.log(`${n} models, ${bad} wrong, ${idle} in which zeros change nothing, ${skipped} skipped`);
  return bad ? 1 : 0;
}

main().then(code => { process.exitCode = code; }, e => { console.log(String(e)); process.exitCode = 1; });
