// Negative log-likelihoods by stock llama.cpp, cut as its perplexity tool cuts: a BOS before the whole text, chunks of `context`
// tokens, the first token of each replaced by BOS, and of each chunk the predictions from its middle on are scored.
//
// usage: perplexity_peer.mjs FOLDER_OF_NODE_MODULES GGUF TEXT CONTEXT CHUNKS
// Prints {"tokens": of the text, "chunks": [{"scored", "nll", "top"}]} as JSON: means over a chunk in nats.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, gguf, text, context, most] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(path.join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href);
const llama = await getLlama({gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.error, progressLogs: false});
const model = await llama.loadModel({modelPath: gguf});
const size = Number(context);
const ctx = await model.createContext({contextSize: size, batchSize: size, sequences: 1, threads: 2});
const seq = ctx.getSequence();
const bos = model.tokens.bos;
const ids = [bos, ...model.tokenize(fs.readFileSync(text, 'utf8'), false)];
const chunks = [];
for (let at = 0; at + size <= ids.length && chunks.length < Number(most); at += size) {
  const chunk = [bos, ...ids.slice(at + 1, at + size)];
  const first = Math.floor(size / 2);
  await seq.clearHistory();
  // the last token is predicted only
  const out = await seq.controlledEvaluate(chunk.slice(0, -1).map((t, i) => i < first ? t : [t, {generateNext: {logits: true}}]));
  let nll = 0, top = 0;
  for (let j = first; j < size - 1; j++) {
    const logits = out[j].next.logits, target = chunk[j + 1];
    let largest = -Infinity, sum = 0;
    for (const x of logits.values())
      largest = Math.max(largest, x);
    for (const x of logits.values())
      sum += Math.exp(x - largest);
    nll += largest + Math.log(sum) - logits.get(target);
    top += logits.get(target) === largest;
  }
  chunks.push({scored: size - 1 - first, nll: nll / (size - 1 - first), top});
}
console.log(JSON.stringify({tokens: ids.length, chunks}));
process.exit(0);
