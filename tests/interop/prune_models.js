// Third-party models cut by quern and run in ONNX Runtime, which knows nothing of us: the smaller file must compute what the model with the same
// groups set to zero computes.
//
// usage: node prune_models.js QUERN BUILD_FOLDER SHARED [--table] [--originals] [--selections N] [NAME]
//
// For each model of prune_models.json and each cut, the same share of the groups of every family going,
//   quern prune MODEL -o SLICED --ratio R --by groups --no-refit --saliency … --zeroed ZEROED --inputs ARRAYS
// is run, then both files over three sets of inputs, where sizes are free also over other sizes than those that the cut was made with:
//   * with a ratio so small that no group goes, SLICED computes what MODEL does, within 1e-4: batch norms were folded, nothing more;
//   * both load, with outputs of the same names and shapes;
//   * every output of SLICED is ZEROED's, max |a - b| <= 1e-5 max |b|; whole numbers are equal. A softmax or sigmoid at the end can make more of the
//     last bits: then at most four times what ZEROED itself changes by when ONNX Runtime's optimizations are off, which only orders sums differently;
//   * at one of the cuts at least ZEROED is another function than MODEL: some output is off by more than 1e-3 of its largest value (else nothing has
//     been shown; a quarter by magnitude may be channels that were dead);
//   * a model of which nothing can be cut is refused with code 4, and its `free` is 0 or not given;
//   * a model with "refused" in the list is refused with code 4 and a line that has that text;
//   * the share of channels that can be cut is at least `free` of the list: what once could be cut must stay so.
// A quarter goes by magnitude, half at random; --selections N takes N random choices of each (for a thorough run). --originals only runs the
// models as they are. --table prints the Markdown table of docs/pruning-models.md; its times are CPU times of one thread, the least of several blocks of runs.
//
// Models: fetch_prune_models.sh FOLDER, then QUERN_PRUNE=FOLDER. The runtime: as in onnx_runtime.js, in FOLDER or QUERN_NPM.
'use strict';
const fs = require('fs'), os = require('os'), path = require('path');
const {spawnSync} = require('child_process');
const {runtime, find, inputsOf} = require('./ort_inputs.js');
const {writeNpz} = require('./npz.js');

const LIMIT = 1e-5, CHANGE = 1e-3, READY = 1e-4, SETS = 3;
const words = process.argv.slice(2), flags = {}, rest = [];
for (let i = 0; i < words.length; i++)
  if (words[i] === '--selections') flags.selections = Number(words[++i]);
  else if (words[i].startsWith('--')) flags[words[i].slice(2)] = true;
  else rest.push(words[i]);
const [quern, build, shared, only] = rest;
const homes = [process.env.QUERN_PRUNE, process.env.QUERN_NPM, build].filter(Boolean);

const CUTS = flags.selections
  ? [0.25, 0.5].flatMap(ratio => Array.from({length: flags.selections}, (_, i) => ({ratio, how: ['--saliency', 'random', '--seed', String(i + 1)]})))
  : [{ratio: 0.25, how: ['--saliency', 'magnitude']}, {ratio: 0.5, how: ['--saliency', 'random', '--seed', '1']}];

// Of two results: max |a - b| ÷ max |b| over one output; an exception when they are not comparable.
function apart(name, a, b) {
  if (!a) throw new Error(`output '${name}' is gone`);
  if (a.type !== b.type || a.dims.join() !== b.dims.join()) throw new Error(`output '${name}' is ${a.type} (${a.dims}), not ${b.type} (${b.dims})`);
  let largest = 0, most = 0;
  for (let i = 0; i < b.data.length; i++) {
    const x = Number(a.data[i]), y = Number(b.data[i]);
    if (!Number.isFinite(y) && (x === y || (Number.isNaN(x) && Number.isNaN(y)))) continue;
    if (!Number.isFinite(x) || !Number.isFinite(y)) return Infinity;
    largest = Math.max(largest, Math.abs(y));
    most = Math.max(most, Math.abs(x - y));
  }
  return most === 0 ? 0 : largest === 0 ? Infinity : most / largest;
}

function worst(a, b) {
  let most = 0;
  for (const name of Object.keys(b)) most = Math.max(most, apart(name, a[name], b[name]));
  return most;
}

async function open(ort, file, level = 'all') {
  return ort.InferenceSession.create(file, {intraOpNumThreads: 1, interOpNumThreads: 1, graphOptimizationLevel: level, logSeverityLevel: 4});
}

async function outputsOf(session, sets) {
  const all = [];
  for (const feeds of sets) all.push(await session.run(feeds));
  return all;
}

// CPU time of a run, in ms, of n in a row: neighbours on the machine do not count.
async function block(session, feeds, n) {
  const begin = process.cpuUsage();
  for (let i = 0; i < n; i++) await session.run(feeds);
  const end = process.cpuUsage(begin);
  return (end.user + end.system) / 1e3 / n;
}

// Least time of a run of either, taken in turns, in blocks of about 4 ms.
async function times(a, b, feeds) {
  const n = Math.max(1, Math.min(200, Math.round(4 / Math.max(0.01, await block(a, feeds, 2)))));
  let x = Infinity, y = Infinity;
  for (let round = 0, spent = 0; round < 60 && (round < 4 || spent < 400); round++) {
    const s = await block(a, feeds, n), t = await block(b, feeds, n);
    x = Math.min(x, s);
    y = Math.min(y, t);
    spent += (s + t) * n;
  }
  return [x, y];
}

function prune(model, cut, folder) {
  const out = path.join(folder, 'sliced.onnx'), zeroed = path.join(folder, 'zeroed.onnx');
  const args = ['prune', model, '-o', out, '--ratio', String(cut.ratio), '--by', 'groups', '--at-most', '--no-refit', ...cut.how, '--zeroed', zeroed,
    '--inputs', path.join(folder, 'inputs.npz'), '--json', '-f'];
  const begin = process.hrtime.bigint();
  const run = spawnSync(quern, args, {encoding: 'utf8', maxBuffer: 1 << 28, timeout: 900000});
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  const line = (run.stderr || '').trim().split('\n')[0];
  if (run.status !== 0) throw Object.assign(new Error(`quern ended with ${run.status === null ? run.signal : run.status}: ${line}`), {code: run.status, line});
  return {report: JSON.parse(run.stdout), out, zeroed, seconds};
}

// Of all output channels of convolutions and linear layers but the model's own outputs, the share that can be cut. Where shapes cannot be made
// up, the report of a cut along real inputs has it, outputs included.
function freeShare(model, report) {
  const run = spawnSync(quern, ['inspect', '--groups', '--json', model], {encoding: 'utf8', maxBuffer: 1 << 28});
  let g = run.status === 0 ? groupsOf(JSON.parse(run.stdout)) : null;
  g = g || {channels: report.channels, free_channels: report.channels_free, output_channels: 0};
  const all = g.channels - g.output_channels;
  return all ? g.free_channels / all : 0;
}

function groupsOf(value) { // wherever it lies in the report
  if (value && typeof value === 'object') {
    if ('free_channels' in value) return value;
    for (const v of Object.values(value)) {
      const g = groupsOf(v);
      if (g) return g;
    }
  }
  return null;
}

// The reasons of frozen channels, each with how many it holds, most first.
function frozen(report) {
  const by = new Map();
  for (const f of report.frozen || []) {
    if (/^belongs to output /.test(f.reason)) continue; // the model's own: nothing can change them
    const reason = f.reason.replace(/node '[^']*'/, 'a node').replace(/'[^']{30,}'/, '…');
    by.set(reason, (by.get(reason) || 0) + f.channels);
  }
  return [...by].sort((a, b) => b[1] - a[1]).map(([reason, n]) => `${n} ${reason}`);
}

async function one(ort, model, file, folder) {
  const original = await open(ort, file), row = {cuts: []};
  const sets = Array.from({length: SETS}, (_, i) => inputsOf(ort, original, {...model, seed: (model.seed || 20260101) + i}));
  const others = model.other ? [inputsOf(ort, original, {...model, dims: {...model.dims, ...model.other}})] : [];
  const dense = await outputsOf(original, [...sets, ...others]);
  if (flags.originals) return row;
  writeNpz(path.join(folder, 'inputs.npz'), sets[0]);
  const ready = await open(ort, prune(file, {ratio: 1e-4, how: ['--saliency', 'magnitude']}, folder).out);
  for (let i = 0; i < SETS; i++) {
    const d = worst(await ready.run(sets[i]), dense[i]);
    if (!(d <= READY)) throw new Error(`with nothing cut it is ${d.toExponential(2)} apart from the model as it was`);
  }
  for (const cut of CUTS) {
    const {report, out, zeroed, seconds} = prune(file, cut, folder);
    const c = {ratio: cut.ratio, report, seconds};
    row.cuts.push(c);
    if (row.free === undefined) row.free = freeShare(file, report);
    row.frozen = frozen(report);
    if (model.free !== undefined && row.free < model.free - 1e-9)
      throw new Error(`only ${(100 * row.free).toFixed(1)} % of the channels can be cut; it was ${(100 * model.free).toFixed(1)} %`);
    if (!(report.families || []).some(f => f.kept < f.groups)) {
      // a quarter of two or three groups is none
      if (model.free && cut === CUTS[CUTS.length - 1] && row.cuts.every(x => x.apart === undefined)) throw new Error('nothing was cut');
      continue;
    }
    const a = await open(ort, out), b = await open(ort, zeroed), all = [...sets, ...others];
    c.apart = c.change = c.noise = 0;
    for (let i = 0; i < all.length; i++) {
      const y = await b.run(all[i]);
      c.apart = Math.max(c.apart, worst(await a.run(all[i]), y));
      c.change = Math.max(c.change, worst(y, dense[i]));
    }
    c.bytes = [fs.statSync(file).size, fs.statSync(out).size];
    if (c.apart > LIMIT) {
      const plain = await open(ort, zeroed, 'disabled');
      for (const feeds of all) c.noise = Math.max(c.noise, worst(await plain.run(feeds), await b.run(feeds)));
    }
    if (!(c.apart <= Math.max(LIMIT, 4 * c.noise))) throw new Error(`at ${cut.ratio} sliced and zeroed are ${c.apart.toExponential(2)} apart (noise ${c.noise.toExponential(1)})`);
    if (flags.table) c.times = await times(original, a, sets[0]);
  }
  const changes = row.cuts.filter(c => c.apart !== undefined).map(c => c.change);
  if (changes.length && !(Math.max(...changes) > CHANGE)) throw new Error('zeroing has changed nothing');
  return row;
}

const count = n => (n >= 1e9 ? `${(n / 1e9).toPrecision(3)} G` : n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n >= 1e3 ? `${(n / 1e3).toPrecision(3)} K` : String(n));
const ratio = (after, before) => (before ? (after / before).toFixed(2) : '-');

function tableRow(model, row, error) {
  const head = `| ${model.name} | ${model.kind} `;
  if (error) return `${head}| | | | | ${error} |`;
  if (row.refused) return `${head}| refused | | | | | | |`;
  if (row.none) return `${head}| 0 % | | - | - | - | - | - |`;
  const last = row.cuts[row.cuts.length - 1], r = last.report, cut = row.cuts.filter(c => c.apart !== undefined);
  const each = f => (cut.length ? cut.map(f).join(' · ') : '-');
  return `${head}| ${(100 * row.free).toFixed(0)} % | ${count(r.before.params)} | ${each(c => ratio(c.report.after.params, c.report.before.params))} | ` +
    `${each(c => ratio(c.report.after.macs, c.report.before.macs))} | ${each(c => ratio(c.bytes[1], c.bytes[0]))} | ` +
    `${each(c => ratio(c.times[1], c.times[0]))} | ${cut.length ? Math.max(...cut.map(c => c.apart)).toExponential(0) : '-'} |`;
}

async function main() {
  const ort = runtime(homes);
  if (!ort) {
    console.log('skipped: no onnxruntime-node (see the head of tests/interop/prune_models.js)');
    return 77;
  }
  const table = [], reasons = [];
  let n = 0, bad = 0;
  for (const model of JSON.parse(fs.readFileSync(path.join(__dirname, 'prune_models.json'), 'utf8'))) {
    const file = find(model.file, homes, shared);
    if (!file || (only && !model.name.includes(only))) continue;
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'quern-prune-'));
    n++;
    let row = null, error = null;
    try {
      row = await one(ort, model, file, folder);
    } catch (e) {
      if (e.code === 4 && e.line.includes('nothing of this model can be cut') && !model.free) row = {cuts: [], free: 0, none: true};
      else if (model.refused && e.code === 4 && e.line.includes(model.refused)) row = {cuts: [], refused: e.line.replace(/^quern: [^:]*: /, '')};
      else bad++;
      error = row ? null : String(e.message).replace(/\s+/g, ' ').slice(0, 300);
    } finally {
      fs.rmSync(folder, {recursive: true});
    }
    if (flags.table) {
      table.push(tableRow(model, row, error));
      if (row && row.refused) reasons.push(`| ${model.name} | ${row.refused} |`);
      if (row && row.frozen && row.frozen.length) reasons.push(`| ${model.name} | ${row.frozen.slice(0, 3).join('; ')} |`);
    }
    const cuts = row && row.cuts.filter(c => c.apart !== undefined);
    console.error(`${model.name}: ${error || (flags.originals ? 'runs' : row.refused ? `refused: ${row.refused}` : !cuts.length ? 'nothing can be cut'
      : `free ${(row.free).toFixed(4)}, sliced and zeroed at most ${Math.max(...cuts.map(c => c.apart)).toExponential(1)} apart, ` +
        `changed by ${cuts.map(c => c.change.toExponential(1)).join(' ')}, ${Math.max(...row.cuts.map(c => c.seconds)).toFixed(1)} s`)}`);
  }
  if (flags.table) {
    console.log('| model | kind | free | parameters | left | products left | bytes left | time left | apart |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |');
    console.log(table.join('\n'));
    console.log('\n| model | frozen channels |\n| --- | --- |\n' + reasons.join('\n'));
  }
  if (!n) {
    console.log('skipped: no models (tests/interop/fetch_prune_models.sh)');
    return 77;
  }
  console.log(`${n} models, ${bad} wrong`);
  return bad ? 1 : 0;
}

main().then(code => { process.exitCode = code; }, e => { console.log(String(e)); process.exitCode = 1; });
