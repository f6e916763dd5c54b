/* loader_tab.c: the kinds of files that hold a tokenizer, in the order they are looked for. */
#include "analysis/tokenize/sp.h"

static bool probe_json(const uint8_t *head, size_t n)
{
    size_t i = 0;
    while (i < n && (head[i] == ' ' || head[i] == '\t' || head[i] == '\n' || head[i] == '\r'))
        i++;
    return i < n && head[i] == '{';
}

const qn_tok_loader qn_tok_loaders[] = {
    {"tokenizer.json", probe_json, qn_tok_load_json},
    {"tokenizer.model", qn_tok_probe_sentencepiece, qn_tok_load_sentencepiece},
    {"sentencepiece.bpe.model", qn_tok_probe_sentencepiece, qn_tok_load_sentencepiece},
    {"spiece.model", qn_tok_probe_sentencepiece, qn_tok_load_sentencepiece},
    {"*.gguf", qn_tok_probe_gguf, qn_tok_load_gguf},
    {NULL, NULL, NULL},
};
