// Arrays as an .npz file: a zip archive whose members are stored .npy files (numpy's format 1.0), what `quern --inputs` reads.
'use strict';
const fs = require('fs');

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

module.exports = {writeNpz};
