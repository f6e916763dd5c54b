// Logits by stock llama.cpp: f32 (tokens, vocabulary), raw, on standard output.
//
// usage: logits_peer.mjs FOLDER_OF_NODE_MODULES GGUF IDS      IDS: "1,5,3"
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, gguf, list] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(path.join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href);
const llama = await getLlama({gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.error, progressLogs: false});
const model = await llama.loadModel({modelPath: gguf});
const ids = list.split(',').map(Number);
const ctx = await model.createContext({contextSize: Math.max(ids.length, 32), batchSize: Math.max(ids.length, 32), sequences: 1, threads: 2});
const out = await ctx.getSequence().controlledEvaluate(ids.map(t => [t, {generateNext: {logits: true}}]));
const rows = out.map(o => {
  const row = new Float32Array(o.next.logits.size);
  for (const [token, x] of o.next.logits)
    row[token] = x;
  return Buffer.from(row.buffer);
});
fs.writeSync(1, Buffer.concat(rows));
process.exit(0);
