// Arrays in .npy and .npz files (numpy's format 1.0; an .npz is a zip archive whose members are .npy files), what `quern --inputs` reads. Written
// members are stored; read ones may be deflated.
'use strict';
const fs = require('fs'), zlib = require('zlib');

const TABLE = Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
function crc32(bytes) {
  let c = 0xffffffff;
  for (const b of bytes) c = TABLE[(c ^ b) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

const DESCR = {float32: '<f4', float64: '<f8', int64: '<i8', int32: '<i4', uint8: '|u1', int8: '|i1', bool: '|b1', int16: '<i2', uint16: '<u2',
  uint32: '<u4'};

function npy({type, dims, data}) {
  const shape = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`;
  let head = `{'descr': '${DESCR[type]}', 'fortran_order': False, 'shape': ${shape}, }`;
  head += ' '.repeat(63 - ((10 + head.length) % 64)) + '\n';
  const start = Buffer.alloc(10);
  start.write('\x93NUMPY\x01\x00', 0, 'latin1');
  start.writeUInt16LE(head.length, 8);
  return Buffer.concat([start, Buffer.from(head, 'latin1'), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

// tensors: name → {type, dims, data}, ONNX Runtime's own will do.
function writeNpz(file, tensors) {
  const parts = [], index = [];
  let at = 0;
  for (const [key, t] of Object.entries(tensors)) {
    const name = Buffer.from(key + '.npy'), body = npy(t), fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0); // version, flags, method: stored; no date
    fields.writeUInt16LE(0x21, 8);
    fields.writeUInt32LE(crc32(body), 10);
    fields.writeUInt32LE(body.length, 14);
    fields.writeUInt32LE(body.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), fields, name]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    index.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00', 'latin1'), fields, tail, name]));
    parts.push(local, body);
    at += local.length + body.length;
  }
  const central = Buffer.concat(index), end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(index.length, 8);
  end.writeUInt16LE(index.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  fs.writeFileSync(file, Buffer.concat([...parts, central, end]));
}

const KINDS = {'<f4': ['float32', Float32Array], '<f8': ['float64', Float64Array], '<i8': ['int64', BigInt64Array], '<i4': ['int32', Int32Array],
  '|u1': ['uint8', Uint8Array], '|i1': ['int8', Int8Array], '|b1': ['bool', Uint8Array]};

// → {type, dims, data}; half floats become float32.
function parseNpy(bytes) {
  const version = bytes[6], n = version === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8), at = version === 1 ? 10 : 12;
  const head = bytes.toString('latin1', at, at + n), descr = /'descr': '([^']+)'/.exec(head)[1];
  if (/'fortran_order': True/.test(head)) throw new Error('an array in Fortran order');
  const dims = /'shape': \(([^)]*)\)/.exec(head)[1].split(',').map(s => s.trim()).filter(Boolean).map(Number);
  const body = new Uint8Array(bytes.subarray(at + n)); // a copy: aligned
  if (descr === '<f2') return {type: 'float32', dims, data: Float32Array.from(new Uint16Array(body.buffer), half)};
  if (!KINDS[descr]) throw new Error(`arrays of ${descr}`);
  return {type: KINDS[descr][0], dims, data: new KINDS[descr][1](body.buffer)};
}

function half(h) {
  const e = (h >> 10) & 31, m = h & 1023, s = h & 0x8000 ? -1 : 1;
  return s * (e === 31 ? (m ? NaN : Infinity) : e ? 2 ** (e - 15) * (1 + m / 1024) : 2 ** -14 * (m / 1024));
}

const readNpy = file => parseNpy(fs.readFileSync(file));

// → name → {type, dims, data}, in the order of the archive's directory.
function readNpz(file) {
  const z = fs.readFileSync(file), end = z.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1')), out = {};
  let at = z.readUInt32LE(end + 16);
  for (let left = z.readUInt16LE(end + 10); left > 0; left--) {
    const method = z.readUInt16LE(at + 10), size = z.readUInt32LE(at + 20), n = z.readUInt16LE(at + 28), start = z.readUInt32LE(at + 42);
    const name = z.toString('utf8', at + 46, at + 46 + n), data = start + 30 + z.readUInt16LE(start + 26) + z.readUInt16LE(start + 28);
    const raw = z.subarray(data, data + size);
    out[name.replace(/\.npy$/, '')] = parseNpy(method ? zlib.inflateRawSync(raw) : raw);
    at += 46 + n + z.readUInt16LE(at + 30) + z.readUInt16LE(at + 32);
  }
  return out;
}

module.exports = {writeNpz, readNpy, readNpz};
