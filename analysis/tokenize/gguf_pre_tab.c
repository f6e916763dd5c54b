/* gguf_pre_tab.c: see gguf_pre.h. */
#include "analysis/tokenize/gguf_pre.h"
#include <stddef.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+" \
    "|\\s+(?!\\S)|\\s+"
#define QWEN2 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+" \
    "|\\s+(?!\\S)|\\s+"
#define QWEN35 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" \
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT4O \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve" \
    "|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s" \
    "|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DIGIT "\\p{N}"
#define DIGITS3 "\\p{N}{1,3}"
#define DIGITS "\\p{N}+"
#define THREE "[0-9][0-9][0-9]"
#define FALCON_P "[\\p{P}\\$\\+<=>\\^~\\|`]+"
#define DEFAULT_P "[\\p{P}\\$\\+<=>\\^~\\|]+"
#define CJK "[一-龥぀-ゟ゠-ヿ]+"
#define DEEPSEEK3 \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define NEWLINE "[\\r\\n]"
#define DS_LETTERS "\\s?\\p{L}+"
#define DS_PUNCT "\\s?\\p{P}+"
#define DS_CJK "[一-龥ࠀ-一가-퟿]+"
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"
#define BAILING \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]" \
    "|\\s+(?!\\S)|\\s+"
#define SEED \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+" \
    "|\\s+(?!\\S)|\\s+"

const qn_gguf_pre qn_gguf_pres[] = {
    {"default", {DEFAULT_P, GPT2, DIGITS, THREE}, false, false},
    {"gpt-2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"jina-es", {GPT2}, false, false},
    {"jina-de", {GPT2}, false, false},
    {"jina-v2-es", {GPT2}, false, false},
    {"jina-v2-de", {GPT2}, false, false},
    {"gigachat", {GPT2}, false, false},
    {"a.x-4.0", {GPT2}, false, false},
    {"mellum", {GPT2}, false, false},
    {"modern-bert", {GPT2}, false, false},
    {"mpt", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"jais", {GPT2}, false, false},
    {"trillion", {GPT2}, false, false},
    {"granite-docling", {GPT2}, false, false},
    {"exaone4", {GPT2}, false, false},
    {"jina-v1-en", {GPT2}, false, false},
    {"jina-v2-code", {GPT2}, false, false},
    {"roberta-bpe", {GPT2}, false, false},
    {"llama3", {LLAMA3}, true, true},
    {"llama-v3", {LLAMA3}, true, true},
    {"llama-bpe", {LLAMA3}, true, true},
    {"falcon3", {LLAMA3}, true, true},
    {"falcon-h1", {LLAMA3}, true, true},
    {"pixtral", {LLAMA3}, true, true},
    {"midm-2.0", {LLAMA3}, true, true},
    {"lfm2", {LLAMA3}, true, true},
    {"jina-v5-nano", {LLAMA3}, true, true},
    {"dbrx", {LLAMA3}, false, false},
    {"smaug-bpe", {LLAMA3}, false, false},
    {"glm4", {LLAMA3}, false, false},
    {"chatglm-bpe", {LLAMA3}, false, false},
    {"qwen2", {QWEN2}, false, false},
    {"deepseek-r1-qwen", {QWEN2}, false, false},
    {"kormo", {QWEN2}, false, false},
    {"f2llmv2", {QWEN2}, false, false},
    {"megrez", {QWEN2}, false, false},
    {"stablelm2", {QWEN2}, false, false},
    {"hunyuan", {QWEN2}, false, false},
    {"solar-open", {QWEN2}, false, false},
    {"grok-2", {QWEN2}, false, false},
    {"qwen35", {QWEN35}, false, false},
    {"tekken", {TEKKEN}, true, true},
    {"gpt-4o", {GPT4O}, false, false},
    {"llama4", {GPT4O}, false, false},
    {"kanana2", {GPT4O}, false, false},
    {"talkie", {GPT4O}, false, false},
    {"minimax-m2", {GPT4O}, false, false},
    {"starcoder", {DIGIT, GPT2}, false, false},
    {"refact", {DIGIT, GPT2}, false, false},
    {"command-r", {DIGIT, GPT2}, false, false},
    {"smollm", {DIGIT, GPT2}, false, false},
    {"codeshell", {DIGIT, GPT2}, false, false},
    {"exaone", {DIGIT, GPT2}, false, false},
    {"minerva-7b", {DIGIT, GPT2}, false, false},
    {"mellum2", {DIGIT, GPT2}, false, false},
    {"falcon", {FALCON_P, GPT2, THREE}, false, false},
    {"deepseek-v3", {DIGITS3, CJK, DEEPSEEK3}, false, false},
    {"hunyuan-dense", {DIGITS3, CJK, DEEPSEEK3}, false, false},
    {"joyai-llm", {DIGITS3, CJK, DEEPSEEK3}, false, false},
    {"hy_v4", {DIGITS3, CJK, DEEPSEEK3}, false, false},
    {"deepseek-coder", {NEWLINE, DS_LETTERS, DS_PUNCT, DS_CJK, DIGIT}, false, false},
    {"poro-chat", {BLOOM}, false, false},
    {"bloom", {BLOOM}, false, false},
    {"gpt3-finnish", {BLOOM}, false, false},
    {"viking", {BLOOM, DIGIT}, false, false},
    {"bailingmoe", {BAILING}, false, false},
    {"bailingmoe2", {BAILING}, false, false},
    {"llada-moe", {BAILING}, false, false},
    {"seed-coder", {SEED}, false, false},
    {NULL, {NULL}, false, false},
};
