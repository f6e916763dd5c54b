/* Builders of GPT-2, GPT-Neo, OPT, Phi, Mamba and RWKV: bits per byte of a trained RWKV-5.2 against what numpy found, and
 * configurations and tensors that contradict each other, each in one clear line. (What the graphs compute: interop/logits_torch.py.) */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 2500 };

/* Mean −log2 p of each byte but the first. */
static double bits_per_byte(qn_exec *x, const char *rel, long from)
{
    static int64_t tokens[BYTES];
    static const int64_t starts[2] = {0, BYTES}, n = BYTES, two = 2;
    unsigned char text[BYTES];
    const char *path = qt_shared(rel);
    cr_assert_not_null(path);
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, from, SEEK_SET), 0);
    cr_assert_eq(fread(text, 1, BYTES, f), BYTES);
    fclose(f);
    for (int i = 0; i < BYTES; i++)
        tokens[i] = text[i];
    union { const int64_t *in; void *out; } u = {.in = starts};
    qn_array in[2], y;
    qn_err err = {0};
    cr_assert_eq(qn_array_wrap(&in[0], QN_I64, &n, 1, tokens, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&in[1], QN_I64, &two, 1, u.out, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, in, &y, &err), QN_OK, "%s", err.text);
    cr_assert_eq(y.dims[1], 256);
    double sum = 0;
    for (int i = 0; i + 1 < BYTES; i++) {
        const float *row = (const float *)y.data + i * 256;
        double all = 0;
        for (unsigned k = 0; k < 256; k++)
            all += exp((double)row[k]);
        sum += log2(all) - (double)row[text[i + 1]] / log(2);
    }
    qn_array_release(&y);
    return sum / (BYTES - 1);
}

Test(build_more, trained_rwkv)
{
    /* Each from a loop over tokens in numpy, f64, over these very bytes. */
    static const struct {
        const char *rel;
        long from;
        double bits;
    } texts[] = {{"text/tinystories_eval_120.txt", 0, 2.825198}, {"text/wiki.test.raw", 5000, 2.981155},
                 {"text/tinyshakespeare.txt", 1000, 3.728692}, {"text/code_calib.txt", 1000, 4.120114}};
    const char *path = qt_shared("models/rwkv5.2-730k/model-f32.safetensors");
    if (!path)
        return;
    const qn_env *env = qt_made_env(2);
    qn_source *s = qt_made_open(env, path);
    qn_graph *g;
    qn_exec *x;
    qn_err err = {0};
    cr_assert_eq(qn_graph_open(env, s, &g, &err), QN_OK, "%s", err.text);
    cr_assert_str_eq(g->family, "rwkv5");
    cr_assert_eq(g->n_vocab, 256u);
    cr_assert_eq(g->n_blocks, 14u);
    cr_assert_eq(g->n_warnings, 0u);
    cr_assert_eq(qn_exec_open(env, g, NULL, &x, &err), QN_OK);
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
        cr_assert_float_eq(bits_per_byte(x, texts[i].rel, texts[i].from), texts[i].bits, 2e-5, "%s", texts[i].rel);
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
}

/* --- what cannot be ---------------------------------------------------------------------------------------------------- */

static const float zeros[4096];

/* A folder of this config.json (NULL: none) and these tensors of zeros; the error of opening its graph. */
static qn_err error_of(const char *config, const qt_made_tensor *t, unsigned n, qn_code code)
{
    static unsigned at;
    const qn_env *env = qt_made_env(1);
    char rel[64];
    qn_err err = {0};
    qn_graph *g = NULL;
    snprintf(rel, sizeof rel, "b%u/model.safetensors", at);
    const char *path = qt_made_safetensors(rel, t, n, NULL);
    if (config) {
        snprintf(rel, sizeof rel, "b%u/config.json", at);
        qt_made_file(rel, config, strlen(config));
    }
    at++;
    char *folder = qt_made_keep(malloc(strlen(path) + 1));
    memcpy(folder, path, strlen(path) + 1);
    *strrchr(folder, '/') = '\0';
    qn_source *s = qt_made_open(env, config ? folder : path);
    cr_assert_eq(qn_graph_open(env, s, &g, &err), code, "%s", err.text);
    cr_assert_null(g);
    qn_source_close(s);
    return err;
}

static void refused(const char *config, const char *tensor, const char *text)
{
    static const qt_made_tensor some[] = {{"wte.weight", QN_F32, 2, {9, 8}, zeros}, {"wpe.weight", QN_F32, 2, {7, 8}, zeros}};
    const bool unsupported = strstr(text, "known") || strstr(text, "supported");
    const qn_err err = error_of(config, some, 2, unsupported ? QN_E_UNSUPPORTED : QN_E_INPUT);
    cr_assert(strstr(err.text, text), "\"%s\" is not in \"%s\"", text, err.text);
    cr_assert_str_eq(err.tensor, tensor, "%s", err.text);
}

#define GPT2 "\"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": 8, \"n_layer\": 1, \"vocab_size\": 9, \"n_positions\": "
#define NEO  "\"architectures\": [\"GPTNeoForCausalLM\"], \"hidden_size\": 8, \"num_layers\": 3, \"num_heads\": 2, \"vocab_size\": 9, " \
             "\"max_position_embeddings\": 7"
#define PHI  "\"architectures\": [\"PhiForCausalLM\"], \"hidden_size\": 12, \"num_hidden_layers\": 1, \"vocab_size\": 9, \"intermediate_size\": 5"
#define MB2  "\"architectures\": [\"Mamba2ForCausalLM\"], \"hidden_size\": 8, \"num_hidden_layers\": 1, \"vocab_size\": 9"

Test(build_more, contradictions)
{
    refused("{" GPT2 "7, \"n_head\": 3}", "", "n_embd|hidden_size is 8, which is no multiple of the 3 of n_head|num_attention_heads");
    refused("{" GPT2 "6, \"n_head\": 2}", "wpe.weight", "shape (7, 8): (6, 8) is expected by the configuration");
    refused("{" GPT2 "7, \"n_head\": 2}", "h.0.ln_1.weight", "it is not there");
    refused("{" GPT2 "7, \"n_head\": 2, \"activation_function\": \"mish\"}", "", "activation_function is \"mish\": this activation is not known");
    refused("{" GPT2 "7}", "", "n_head");
    refused("{" NEO ", \"attention_layers\": [\"global\"]}", "transformer.wte.weight", "it is not there");
    refused("{" PHI ", \"num_attention_heads\": 3, \"num_key_value_heads\": 2}", "",
            "num_attention_heads is 3, which is no multiple of the 2 of num_key_value_heads");
    refused("{" MB2 ", \"num_heads\": 4, \"n_groups\": 3}", "", "num_heads is 4, which is no multiple of the 3 of n_groups");
    refused("{" MB2 ", \"num_heads\": 4, \"n_groups\": 2, \"norm_before_gate\": true}", "", "false is supported");
}

Test(build_more, attention_types)
{
    static const qt_made_tensor some[] = {{"transformer.wte.weight", QN_F32, 2, {9, 8}, zeros}, {"transformer.wpe.weight", QN_F32, 2, {7, 8}, zeros}};
    static const struct {
        const char *keys, *text;
        qn_code code;
    } bad[] = {
        {", \"attention_types\": [[[\"mixed\"], 3]]", "attention \"mixed\"; global and local are known", QN_E_UNSUPPORTED},
        {", \"attention_types\": [[[\"global\"]]]", "pairs of a list and a number", QN_E_INPUT},
        {", \"attention_types\": [[[], 3]]", "says nothing of layer 0", QN_E_INPUT},
        {", \"attention_types\": [[[\"global\"], 0]]", "says nothing of layer 0", QN_E_INPUT},
        {", \"attention_layers\": [\"glob\\u001b\"]", "attention \"glob\\x1b\"", QN_E_UNSUPPORTED},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char config[512];
        snprintf(config, sizeof config, "{" NEO "%s}", bad[i].keys);
        const qn_err err = error_of(config, some, 2, bad[i].code);
        cr_assert(strstr(err.text, bad[i].text), "\"%s\" is not in \"%s\"", bad[i].text, err.text);
    }
}

Test(build_more, rwkv_sizes)
{
    qt_made_tensor t[] = {{"emb.weight", QN_F32, 2, {9, 8}, zeros}, {"blocks.0.ln0.weight", QN_F32, 1, {8}, zeros},
                          {"blocks.0.att.time_decay", QN_F32, 3, {2, 4, 1}, zeros}, {"blocks.0.att.gate.weight", QN_F32, 2, {8, 8}, zeros},
                          {"blocks.0.ffn.key.weight", QN_F32, 2, {10, 8}, zeros}};
    qn_err err = error_of(NULL, t, 4, QN_E_INPUT);
    cr_assert(strstr(err.text, "an RWKV model needs emb.weight"), "%s", err.text);
    err = error_of(NULL, t, 5, QN_E_INPUT);
    cr_assert_str_eq(err.tensor, "blocks.0.ln0.bias");
    t[2].dims[0] = 3;
    err = error_of(NULL, t, 5, QN_E_INPUT);
    cr_assert_str_eq(err.tensor, "blocks.0.att.time_decay");
    cr_assert(strstr(err.text, "product 8 is expected"), "%s", err.text);
    t[2] = (qt_made_tensor){"blocks.0.att.time_decay", QN_F32, 1, {8}, zeros}; /* RWKV-4 */
    err = error_of(NULL, t, 5, QN_E_UNSUPPORTED);
    t[0].name = "embedding.weight";
    err = error_of(NULL, t, 5, QN_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "nothing here says what the tensors mean"), "%s", err.text);
}
