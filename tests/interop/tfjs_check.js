// TensorFlow.js models: what tfjs decodes, every weight bit for bit, for models made by hand (every dtype and quantization, weights
// across shards) and one saved by tfjs itself; and packing must give back the identical files.
//
// usage: node tfjs_check.js DUMP_TENSORS QUERN    (with NODE_PATH at a folder that has @tensorflow/tfjs)
'use strict';
const {execFileSync} = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

let tf;
try {
  const log = console.warn;
  console.warn = console.log = () => {};
  tf = require('@tensorflow/tfjs');
  console.warn = log;
} catch (e) {
  process.stdout.write('skipped: node has no @tensorflow/tfjs (set NODE_PATH)\n');
  process.exit(77);
}
const say = s => process.stdout.write(s + '\n');
const [dump, quern] = process.argv.slice(2);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'tfjs-'));
let failed = 0, compared = 0;

function check(ok, what) {
  if (!ok) {
    failed++;
    say('FAILED: ' + what);
  }
}

let state = 12345;
function random() {  // 0 … 1
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return state / 4294967296;
}

function bytesOf(entry, n) {
  const q = entry.quantization ? entry.quantization.dtype : entry.dtype;
  if (q === 'string') {
    const parts = [];
    for (let i = 0; i < n; i++) {
      const text = Buffer.from('ä'.repeat(i % 5) + i);
      const len = Buffer.alloc(4);
      len.writeUInt32LE(text.length);
      parts.push(len, text);
    }
    return Buffer.concat(parts);
  }
  const width = {float32: 4, int32: 4, bool: 1, complex64: 8, uint8: 1, uint16: 2, float16: 2}[q];
  const b = Buffer.alloc(n * width);
  for (let i = 0; i < b.length; i++) b[i] = q === 'bool' ? random() * 2 : random() * 256;
  if (q === 'float32' || q === 'complex64')
    for (let i = 0; i < b.length; i += 4) b.writeFloatLE(random() * 4 - 2, i);
  if (q === 'float16')  // no NaN: tfjs does not keep their payloads
    for (let i = 0; i < b.length; i += 2) if ((b.readUInt16LE(i) & 0x7c00) === 0x7c00) b.writeUInt16LE(0x7c00 | b.readUInt16LE(i) & 0x8000, i);
  return b;
}

// Files of the group, cut where it hurts.
function writeModel(folder, groups, shardBytes) {
  fs.mkdirSync(folder);
  const manifest = groups.map((weights, g) => {
    const all = Buffer.concat(weights.map(w => bytesOf(w, w.shape.reduce((a, b) => a * b, 1))));
    const paths = [];
    for (let at = 0, k = 1; at < all.length || k === 1; at += shardBytes, k++) {
      const name = `group${g + 1}-shard${k}.bin`;
      fs.writeFileSync(path.join(folder, name), all.subarray(at, at + shardBytes));
      paths.push(name);
    }
    return {paths, weights};
  });
  fs.writeFileSync(path.join(folder, 'model.json'), JSON.stringify({format: 'graph-model', modelTopology: {node: []},
    weightsManifest: manifest}));
}

function readDump(file) {
  const out = execFileSync(dump, [file], {maxBuffer: 1 << 28});
  const tensors = {};
  for (let at = 0; at < out.length;) {
    const end = out.indexOf(10, at);
    const [name, dtype, dims, n] = out.subarray(at, end).toString().split('\t');
    tensors[name] = {dtype, dims, bytes: out.subarray(end + 1, end + 1 + Number(n))};
    at = end + 1 + Number(n);
  }
  return tensors;
}

async function compare(folder, given) {
  const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'))).weightsManifest;
  const ours = readDump(given);
  let n = 0;
  for (const group of manifest) {
    const data = Buffer.concat(group.paths.map(p => fs.readFileSync(path.join(folder, p))));
    const buffer = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
    const theirs = tf.io.decodeWeights(buffer, group.weights);
    for (const w of group.weights) {
      if (w.dtype === 'string') {
        check(!(w.name in ours), `${w.name}: strings are not listed`);
        continue;
      }
      const t = theirs[w.name], got = ours[w.name];
      n++;
      check(got !== undefined, `${w.name} is listed`);
      if (!got) continue;
      check(got.dims === w.shape.join(','), `${w.name}: shape ${got.dims}`);
      if (w.dtype === 'complex64') {
        check(got.dtype === 'C64', `${w.name}: dtype ${got.dtype}`);
        const re = await tf.real(t).data(), im = await tf.imag(t).data();
        for (let i = 0; i < re.length; i++)
          check(Object.is(got.bytes.readFloatLE(8 * i), re[i]) && Object.is(got.bytes.readFloatLE(8 * i + 4), im[i]), `${w.name}[${i}]`);
        continue;
      }
      check(got.dtype === {float32: 'F32', int32: 'I32', bool: 'BOOL'}[w.dtype], `${w.name}: dtype ${got.dtype}`);
      const v = await t.data();
      const want = Buffer.from(v.buffer, v.byteOffset, v.byteLength);
      check(want.equals(got.bytes), `${w.name}: values differ`);
      compared += v.length;
    }
  }
  check(Object.keys(ours).length === n, `${Object.keys(ours).length} tensors are listed, ${n} expected`);
}

function roundTrip(folder, given) {
  const packed = folder + '.quern', back = folder + '.back';
  execFileSync(quern, ['compress', '-qf', given, '-o', packed]);
  execFileSync(quern, ['decompress', '-qf', packed, '-o', back]);
  for (const f of fs.readdirSync(folder))
    check(fs.readFileSync(path.join(folder, f)).equals(fs.readFileSync(path.join(back, f))), `${f} is not what it was`);
  fs.rmSync(back, {recursive: true});
}

(async () => {
  await tf.setBackend('cpu');
  const entry = (name, shape, dtype, quantization) => quantization ? {name, shape, dtype, quantization} : {name, shape, dtype};
  const every = [
    entry('f', [3, 5], 'float32'), entry('b', [7], 'bool'), entry('i', [2, 3], 'int32'), entry('text', [9], 'string'),
    entry('c', [2, 2], 'complex64'), entry('scalar', [], 'float32'), entry('empty', [0, 4], 'float32'),
    entry('q8', [31, 17], 'float32', {dtype: 'uint8', scale: 0.003921568859368563, min: -0.4980392451398075}),
    entry('q16', [13, 11], 'float32', {dtype: 'uint16', scale: 1.5259021893143654e-05, min: -0.5}),
    entry('qi', [40], 'int32', {dtype: 'uint8', scale: 0.5, min: -64.5}),
    entry('qi16', [40], 'int32', {dtype: 'uint16', scale: 123456.789, min: -3e9}),
    entry('half', [200], 'float32', {dtype: 'float16'}), entry('tiny', [99], 'float32', {dtype: 'uint8', scale: 1e-42, min: 0}),
    entry('large', [99], 'float32', {dtype: 'uint16', scale: 1e34, min: -1E+30}),
  ];
  for (const shard of [1 << 20, 1000, 37, 5]) {
    const folder = path.join(dir, 'made' + shard);
    writeModel(folder, [every, [entry('second', [100], 'float32')]], shard);
    await compare(folder, folder);
    await compare(folder, path.join(folder, 'model.json'));
    if (shard > 36) roundTrip(folder, shard === 37 ? folder : path.join(folder, 'model.json'));
  }
  const model = tf.sequential({layers: [tf.layers.conv2d({inputShape: [8, 8, 3], filters: 4, kernelSize: 3}), tf.layers.flatten(),
    tf.layers.dense({units: 10})]});
  const saved = path.join(dir, 'saved');
  await model.save({save: async a => {
    fs.mkdirSync(saved);
    const data = Buffer.from(Array.isArray(a.weightData) ? Buffer.concat(a.weightData.map(x => Buffer.from(x))) : a.weightData);
    fs.writeFileSync(path.join(saved, 'weights.bin'), data);
    fs.writeFileSync(path.join(saved, 'model.json'), JSON.stringify({format: 'layers-model', modelTopology: a.modelTopology,
      weightsManifest: [{paths: ['weights.bin'], weights: a.weightSpecs}]}));
    return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
  }});
  await compare(saved, saved);
  roundTrip(saved, saved);
  say(`tfjs ${tf.version.tfjs}: ${compared} values compared, ${failed} failures`);
  fs.rmSync(dir, {recursive: true});
  process.exit(failed ? 1 : 0);
})().catch(e => {
  say(String(e.stack || e));
  process.exit(1);
});
