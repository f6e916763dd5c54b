/* cmd_tokenize.c: quern tokenize MODEL [TEXTFILE]. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/json_write.h"
#include "cli/token_input.h"
#include "cli/units.h"
#include "formats/npz/npy_write.h"
#include <string.h>

struct args {
    qn_common common;
    const char *text, *output;
    bool ids, count, no_special, plain, decode, force, dry_run;
};

static const qn_option options[] = {
    {.name = "text", .letter = 't', .type = QN_OPT_TEXT, .at = offsetof(struct args, text), .arg = "TEXT",
     .help = "this text (with --decode: these ids) instead of a file"},
    {.name = "ids", .letter = 'i', .type = QN_OPT_FLAG, .at = offsetof(struct args, ids),
     .help = "print the ids on one line and nothing else"},
    {.name = "count", .letter = 'c', .type = QN_OPT_FLAG, .at = offsetof(struct args, count),
     .help = "print how many tokens there are and nothing else"},
    {.name = "no-special", .type = QN_OPT_FLAG, .at = offsetof(struct args, no_special),
     .help = "no BOS, EOS or the like around the text; with --decode: leave special tokens out"},
    {.name = "plain", .type = QN_OPT_FLAG, .at = offsetof(struct args, plain),
     .help = "special tokens that stand in the text, such as </s>, are text like any other"},
    {.name = "decode", .letter = 'd', .type = QN_OPT_FLAG, .at = offsetof(struct args, decode),
     .help = "the other way: ids (numbers, or a .npy file) become text on standard output"},
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "TOKENS.npy",
     .help = "write the ids as a numpy array of uint32, in one dimension"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force),
     .help = "replace the output when it exists"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "with --output: tokenize and check everything, and write nothing"},
};

struct job {
    const struct args *a;
    qn_tokenizer *t;
    const char *path; /* of the text; NULL: given on the line */
    const char *bytes;
    uint64_t n_bytes;
    qn_tokens tokens;
    char *text; /* decoded; owned */
    uint64_t n_text, cap_text;
    double seconds;
};

static qn_code check_line(qn_cli *cli, const struct args *a, qn_err *err)
{
    if (a->text && cli->operands.n > 1)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "tokenize: --text and a text file do not go together");
    if (a->ids + a->count + cli->common->json > 1)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "tokenize: one of --ids, --count and --json is allowed");
    if (a->decode && (a->output || a->ids || a->count || a->plain))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "tokenize: --decode prints text: --output, --ids, --count and --plain do not go with it");
    if (!a->output && (a->force || a->dry_run))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "tokenize: --%s goes with --output", a->force ? "force" : "dry-run");
    return QN_OK;
}

static void print_head(const struct job *j, qn_json_writer *w)
{
    char hex[33];
    const qn_digest d = qn_tokenizer_digest(j->t);
    qn_digest_hex(&d, hex);
    qn_jw_text(w, "tokenizer", qn_tokenizer_file(j->t));
    qn_jw_text(w, "kind", qn_tokenizer_kind(j->t));
    qn_jw_u64(w, "vocabulary", qn_tokenizer_size(j->t));
    qn_jw_text(w, "digest", hex);
}

static void print_json(const struct job *j)
{
    qn_json_writer w;
    qn_jw_open(&w, stdout, "tokenize");
    print_head(j, &w);
    if (j->a->output) {
        qn_jw_text(&w, "output", j->a->output);
        qn_jw_bool(&w, "dry_run", j->a->dry_run);
    }
    qn_jw_u64(&w, "bytes", j->n_bytes);
    qn_jw_u64(&w, "count", j->tokens.n);
    qn_jw_real(&w, "seconds", j->seconds);
    if (!j->a->output) {
        qn_jw_begin(&w, "ids", '[');
        for (uint64_t i = 0; i < j->tokens.n; i++)
            qn_jw_u64(&w, NULL, j->tokens.ids[i]);
        qn_jw_end(&w, ']');
        qn_jw_begin(&w, "tokens", '[');
        for (uint64_t i = 0; i < j->tokens.n; i++) {
            size_t n;
            qn_jw_text(&w, NULL, qn_tokenizer_token(j->t, j->tokens.ids[i], &n));
        }
        qn_jw_end(&w, ']');
    }
    qn_jw_close(&w);
}

static void print_table(const qn_cli *cli, const struct job *j)
{
    char size[32], shown[400];
    for (uint64_t i = 0; i < j->tokens.n; i++) {
        size_t n = 0;
        const char *s = qn_tokenizer_token(j->t, j->tokens.ids[i], &n);
        qn_printable(shown, sizeof shown, s ? s : "", n);
        printf("%8u  %s\n", j->tokens.ids[i], shown);
    }
    qn_human_bytes(size, sizeof size, j->n_bytes);
    printf("%s%llu token%s%s of %s: %s, %u in the vocabulary\n", qn_term_bold(&cli->out), (unsigned long long)j->tokens.n,
           j->tokens.n == 1 ? "" : "s", qn_term_plain(&cli->out), size, qn_tokenizer_kind(j->t), qn_tokenizer_size(j->t));
}

static void print_ids(const struct job *j)
{
    for (uint64_t i = 0; i < j->tokens.n; i++)
        printf(i ? " %u" : "%u", j->tokens.ids[i]);
    printf("\n");
}

static qn_code write_array(qn_cli *cli, const struct job *j, qn_err *err)
{
    const qn_npy_options opt = {.overwrite = j->a->force};
    char size[32], rate[32], name[200];
    QN_TRY(qn_npy_write_check(&cli->env, j->a->output, &opt, err));
    if (!j->a->dry_run)
        QN_TRY(qn_npy_write_array(&cli->env, "tokens", QN_U32, &j->tokens.n, 1, j->tokens.ids, j->a->output, &opt, NULL, err));
    if (cli->common->json || cli->common->quiet || j->a->ids || j->a->count)
        return QN_OK;
    qn_human_bytes(size, sizeof size, j->n_bytes);
    qn_human_rate(rate, sizeof rate, j->n_bytes, j->seconds);
    qn_printable(name, sizeof name, j->a->output, strlen(j->a->output));
    printf("%s%s%s%s: %llu tokens as uint32, of %s, %s\n", j->a->dry_run ? "would write " : "", qn_term_bold(&cli->out), name,
           qn_term_plain(&cli->out), (unsigned long long)j->tokens.n, size, rate);
    return QN_OK;
}

static qn_code encode(qn_cli *cli, struct job *j, qn_err *err)
{
    const unsigned flags = (j->a->no_special ? 0u : QN_TOKENIZE_SPECIAL) | (j->a->plain ? QN_TOKENIZE_PLAIN : 0u);
    const double began = qn_cli_now();
    QN_TRY(qn_tokenizer_encode(j->t, j->bytes, j->n_bytes, flags, &j->tokens, err));
    j->seconds = qn_cli_now() - began;
    if (j->a->output)
        QN_TRY(write_array(cli, j, err));
    if (cli->common->json)
        print_json(j);
    else if (j->a->count)
        printf("%llu\n", (unsigned long long)j->tokens.n);
    else if (j->a->ids)
        print_ids(j);
    else if (!j->a->output && !cli->common->quiet)
        print_table(cli, j);
    return QN_OK;
}

/* The text alone, so that it can be piped; a line break is added only for a terminal's sake when it ends without one. */
static qn_code decode(qn_cli *cli, struct job *j, qn_err *err)
{
    QN_TRY(qn_token_input_ids(cli, j->path, j->bytes, j->n_bytes, &j->tokens, err));
    QN_TRY(qn_tokenizer_decode(j->t, j->tokens.ids, j->tokens.n, j->a->no_special, &j->text, &j->n_text, &j->cap_text, err));
    if (cli->common->json) {
        qn_json_writer w;
        char *z = qn_arena_str(&cli->arena, j->n_text ? j->text : "", j->n_text, err);
        if (!z)
            return QN_E_MEMORY;
        qn_jw_open(&w, stdout, "tokenize");
        print_head(j, &w);
        qn_jw_u64(&w, "count", j->tokens.n);
        qn_jw_text(&w, "text", z);
        qn_jw_close(&w);
        return QN_OK;
    }
    for (uint64_t i = 0; i < j->n_text; i++)
        putchar((unsigned char)j->text[i]);
    if (cli->out.is_tty && (j->n_text == 0 || j->text[j->n_text - 1] != '\n'))
        putchar('\n');
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    struct job j = {.a = args, .path = cli->operands.n > 1 ? cli->operands.items[1] : NULL};
    char *read = NULL;
    QN_TRY(check_line(cli, j.a, err));
    QN_TRY(qn_tokenizer_open(&cli->env, cli->operands.items[0], &j.t, err));
    qn_code rc = QN_OK;
    if (j.a->text) {
        j.bytes = j.a->text;
        j.n_bytes = strlen(j.a->text);
    } else if (!(j.a->decode && qn_token_input_is_npy(j.path))) {
        rc = qn_token_input_bytes(cli, j.path, &read, &j.n_bytes, err);
        j.bytes = read;
    }
    if (rc == QN_OK)
        rc = j.a->decode ? decode(cli, &j, err) : encode(cli, &j, err);
    qn_mem_put(cli->env.alloc, read);
    qn_mem_put(cli->env.alloc, j.text);
    qn_tokens_release(&j.tokens, cli->env.alloc);
    qn_tokenizer_close(j.t);
    return rc;
}

static const qn_example examples[] = {
    {"quern tokenize llama-7b/ --text 'Once upon a time'", "each token with its id"},
    {"quern tokenize tokenizer.json corpus.txt -o corpus.npy", "the ids of a text, for numpy and for other programs"},
    {"quern tokenize llama-7b.quern corpus.txt --count", "how long a text is, with a packed checkpoint's own tokenizer"},
    {"quern tokenize llama-7b/ corpus.npy --decode", "ids back to text"},
    {"echo 1 403 407 | quern tokenize llama-7b/ --decode --no-special", "the same, from another program"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"tokenizer, kind, vocabulary", "the file it was read from, what it is, how many ids there are"},
    {"digest", "of all that decides its output: two tokenizers with one digest give the same ids"},
    {"bytes, count, seconds", "of the text, of its tokens, time taken"},
    {"ids[], tokens[]", "each id, and the token as it stands in the vocabulary; without --output"},
    {"output, dry_run", "with --output"},
    {"text", "with --decode, instead of bytes, seconds, ids and tokens"},
    {NULL, NULL},
};

const qn_command qn_cmd_tokenize = {
    .name = "tokenize",
    .summary = "turn text into token ids and back with a model's own tokenizer",
    .synopsis = "MODEL [TEXTFILE] [--text TEXT] [options]",
    .description =
        "MODEL is a model folder, a packed checkpoint, or a tokenizer file itself. The text is a file, standard input ('-' or "
        "nothing), or --text. It is taken as it is: a line break at its end is text too. Bytes that are not UTF-8 are read as "
        "U+FFFD, as the reference implementations do.\n\n"
        "Special tokens are put around the text where the model's files say that they belong; --no-special leaves them out. "
        "With --output the array gets its name only when it is complete; a run that fails leaves nothing behind.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 2,
    .operand = "a model or a tokenizer file",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
