// The reference implementations, for tokenizers.py.
//
// usage: node tokenizer_peer.mjs NODE_MODULES encode js|rust TOKENIZER.json TEXT CHUNK_BYTES OUT
//        node tokenizer_peer.mjs NODE_MODULES train TOKENIZER.json TEXT N_MERGES OUT.json
//
// encode: the format of dump_tokens.c, decoded text included. train: byte-pair merges for a byte-level tokenizer whose
// vocabulary holds the single bytes, learned from the text's pieces.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const [modules, action, ...args] = process.argv.slice(2);
const require = createRequire(modules + '/');
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

function* chunks(bytes, size) {
  for (let at = 0; at < bytes.length;) {
    let end = Math.min(at + size, bytes.length);
    if (end < bytes.length) {
      const nl = bytes.indexOf(10, end);
      end = nl < 0 ? bytes.length : nl + 1;
    }
    yield utf8.decode(bytes.subarray(at, end));
    at = end;
  }
}

function u32(values) {
  const b = Buffer.alloc(4 * values.length);
  values.forEach((v, i) => b.writeUInt32LE(v, 4 * i));
  return b;
}

async function encode(which, file, textFile, size, out) {
  const json = fs.readFileSync(file, 'utf8');
  let encodeOne, decodeOne;
  if (which === 'js') {
    const { Tokenizer } = require('@huggingface/tokenizers');
    const t = new Tokenizer(JSON.parse(json), { clean_up_tokenization_spaces: false });
    encodeOne = async (s) => t.encode(s).ids;
    decodeOne = async (ids) => t.decode(ids, { skip_special_tokens: true });
  } else {
    const { Tokenizer } = require('@anush008/tokenizers');
    const t = Tokenizer.fromString(json);
    encodeOne = async (s) => (await t.encode(s)).getIds();
    decodeOne = (ids) => t.decode(ids, true);
  }
  const fd = fs.openSync(out, 'w');
  let seconds = 0;
  for (const text of chunks(fs.readFileSync(textFile), Number(size))) {
    const began = performance.now();
    const ids = await encodeOne(text);
    seconds += (performance.now() - began) / 1000;
    const back = Buffer.from(await decodeOne(ids), 'utf8');
    fs.writeSync(fd, u32([ids.length, ...ids, back.length]));
    if (back.length) fs.writeSync(fd, back);
  }
  fs.closeSync(fd);
  console.log(seconds.toFixed(6));
}

function train(file, textFile, n, out) {
  const { Tokenizer } = require('@huggingface/tokenizers');
  const json = JSON.parse(fs.readFileSync(file, 'utf8'));
  const t = new Tokenizer(json, {});
  const counts = new Map();
  for (const text of chunks(fs.readFileSync(textFile), 1 << 16))
    for (const piece of t.pre_tokenizer(t.normalizer ? t.normalizer(text) : text))
      counts.set(piece, (counts.get(piece) ?? 0) + 1);
  const words = [...counts].map(([w, count]) => ({ parts: [...w], count }));
  const { vocab, merges } = json.model;
  while (merges.length < Number(n)) {
    const pairs = new Map();
    let best = null, top = 0;
    for (const { parts, count } of words)
      for (let i = 0; i + 1 < parts.length; i++) {
        const key = parts[i] + ' ' + parts[i + 1], c = (pairs.get(key) ?? 0) + count;
        pairs.set(key, c);
        if (c > top) [best, top] = [key, c];
      }
    if (top < 2) break;
    const [a, b] = best.split(' ');
    merges.push(best);
    vocab[a + b] ??= Object.keys(vocab).length;
    for (const w of words)
      for (let i = 0; i + 1 < w.parts.length; i++)
        if (w.parts[i] === a && w.parts[i + 1] === b) w.parts.splice(i, 2, a + b);
  }
  fs.writeFileSync(out, JSON.stringify(json));
}

if (action === 'encode') await encode(...args);
else train(...args);
