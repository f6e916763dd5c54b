/* cmd_decompress.c: quern decompress FILE.quern. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/extract.h"
#include "cli/findings.h"
#include "cli/names.h"
#include "cli/units.h"
#include "compress/pack.h"
#include "formats/quern/source.h"
#include <string.h>

struct args {
    qn_common common;
    const char *output, *base, *tensor, *rows;
    bool force, dry_run, salvage, f32;
};

static const qn_option options[] = {
    {.name = "output", .letter = 'o', .type = QN_OPT_PATH, .at = offsetof(struct args, output), .arg = "OUTPUT",
     .help = "restore to OUTPUT: a file, or a folder when a folder was packed; without it FILE minus .quern"},
    {.name = "base", .type = QN_OPT_PATH, .at = offsetof(struct args, base), .arg = "CHECKPOINT",
     .help = "the checkpoint that was given to compress --base"},
    {.name = "salvage", .type = QN_OPT_FLAG, .at = offsetof(struct args, salvage),
     .help = "restore what is intact of a damaged file: chunks that are lost become zeros, each is listed, and the exit "
             "code is 3"},
    {.name = "force", .letter = 'f', .type = QN_OPT_FLAG, .at = offsetof(struct args, force),
     .help = "replace the output when it exists; in a folder that exists, replace files of the same name"},
    {.name = "dry-run", .letter = 'n', .type = QN_OPT_FLAG, .at = offsetof(struct args, dry_run),
     .help = "decode and check everything, and write nothing"},
    {.name = "tensor", .letter = 'T', .type = QN_OPT_TEXT, .at = offsetof(struct args, tensor), .arg = "NAME",
     .help = "write this tensor only, as a numpy array: OUTPUT is a .npy file. Any readable checkpoint will do"},
    {.name = "rows", .type = QN_OPT_TEXT, .at = offsetof(struct args, rows), .arg = "FIRST:END",
     .help = "with --tensor: these rows of the outermost dimension, END not included"},
    {.name = "f32", .type = QN_OPT_FLAG, .at = offsetof(struct args, f32),
     .help = "with --tensor: floats of fewer than 32 bits as float32. Without it bfloat16 and 8-bit floats, which numpy "
             "does not have, are written as the unsigned integers of their bits"},
};

struct outcome {
    const char *out;
    uint64_t n_bytes;
    double seconds;
    bool intact;
    uint64_t n_lossy; /* tensors that were approximated when they were packed */
};

static void report_json(const struct args *a, const qn_source *src, const struct outcome *r, const qn_findings *damage)
{
    qn_json_writer j;
    qn_jw_open(&j, stdout, "decompress");
    qn_jw_text(&j, "input", qn_source_given(src));
    qn_jw_text(&j, "output", r->out);
    qn_jw_bool(&j, "dry_run", a->dry_run);
    qn_jw_u64(&j, "bytes", r->n_bytes);
    qn_jw_u64(&j, "files", src->n_files);
    qn_jw_u64(&j, "tensors", src->n_tensors);
    qn_jw_u64(&j, "approximated", r->n_lossy);
    qn_jw_real(&j, "seconds", r->seconds);
    qn_jw_bool(&j, "intact", r->intact);
    qn_findings_json(damage, &j, "damaged");
    qn_jw_close(&j);
}

static void report_text(const qn_cli *cli, const struct args *a, const qn_source *src, const struct outcome *r)
{
    char size[32], time[32], rate[32], name[200];
    qn_human_bytes(size, sizeof size, r->n_bytes);
    qn_human_seconds(time, sizeof time, r->seconds);
    qn_human_rate(rate, sizeof rate, r->n_bytes, r->seconds);
    qn_printable(name, sizeof name, r->out, strlen(r->out));
    printf("%s%s%s%s: %s", a->dry_run ? "would restore " : "", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out), size);
    if (src->is_dir)
        printf(" in %llu file%s", (unsigned long long)src->n_files, src->n_files == 1 ? "" : "s");
    printf(", %s, in %s, %s\n", !r->intact ? "with zeros for what was lost" : r->n_lossy ? "all that was packed" : "identical to the original",
           time, rate);
    if (r->n_lossy)
        printf("%llu of %llu tensors are approximations: they were packed with loss, the original's weights are not in the file\n",
               (unsigned long long)r->n_lossy, (unsigned long long)src->n_tensors);
}

static qn_code unpack(qn_cli *cli, const struct args *a, qn_source *src, const char *out, qn_err *err)
{
    qn_findings damage = {.cli = cli, .label = "damaged"};
    const qn_unpack_options opt = {.overwrite = a->force, .dry_run = a->dry_run, .salvage = a->salvage,
                                   .damaged = qn_findings_add, .damaged_ctx = &damage};
    const double began = qn_cli_now();
    struct outcome r = {.out = out, .n_lossy = qn_index_n_lossy(qn_reader_index(qn_quern_source_reader(src)))};
    const qn_code rc = qn_unpack(&cli->env, src, out, &opt, &r.n_bytes, err);
    r.seconds = qn_cli_now() - began;
    r.intact = rc == QN_OK;
    qn_progress_clear(&cli->progress);
    /* damage that was salvaged is a result as well as an error */
    if (rc == QN_OK || (rc == QN_E_INPUT && damage.n)) {
        if (cli->common->json)
            report_json(a, src, &r, &damage);
        else if (!cli->common->quiet)
            report_text(cli, a, src, &r);
    } else if (rc == QN_E_INPUT && !a->salvage) {
        qn_hint_set(&cli->hint, "--salvage restores what is intact");
    }
    qn_findings_release(&damage);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    const char *in = cli->operands.items[0], *out = a->output;
    qn_source *src = NULL, *base = NULL;
    if (!a->tensor && (a->rows || a->f32))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "decompress: --%s goes with --tensor", a->rows ? "rows" : "f32");
    if (a->tensor && (a->salvage || a->dry_run))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "decompress: --%s does not go with --tensor",
                       a->salvage ? "salvage" : "dry-run");
    qn_code rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK && !qn_quern_source_reader(src) && !a->tensor)
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file, there is nothing to restore"),
                            in);
    if (rc == QN_OK && !out && !a->tensor)
        rc = qn_name_unpacked(&cli->arena, in, &out, err);
    if (rc == QN_OK && a->base)
        rc = qn_cli_open(cli, a->base, &base, err);
    if (rc == QN_OK) {
        const qn_extract_options one = {.tensor = a->tensor, .output = out, .rows = a->rows, .f32 = a->f32, .force = a->force};
        if (base && qn_quern_source_reader(src))
            qn_quern_source_set_base(src, base);
        rc = a->tensor ? qn_cli_extract(cli, src, &one, err) : unpack(cli, a, src, out, err);
    }
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}

static const qn_example examples[] = {
    {"quern decompress model.safetensors.quern", "restore model.safetensors beside it"},
    {"quern decompress llama-7b.quern -o llama-7b", "restore a model folder"},
    {"quern decompress tuned.quern --base original.safetensors", "restore what was packed with the same --base"},
    {"quern decompress model.quern --tensor lm_head.weight -o head.npy", "one tensor, as a numpy array"},
    {"quern decompress damaged.quern -o rest.safetensors --salvage", "save what can be saved"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"input, output", "paths"},
    {"dry_run", "true when nothing was written"},
    {"bytes, files, tensors", "what was restored"},
    {"approximated", "tensors that were packed with loss: their weights are not the original's"},
    {"seconds", "time taken"},
    {"intact", "true when every byte is what was packed; false only with --salvage"},
    {"damaged[]", "file, tensor, offset, text: the first 1000 damaged chunks"},
    {"damaged_count", "how many there are"},
    {"tensor, dtype, numpy_dtype, shape, bit_patterns", "with --tensor, instead of what is above but input, output and bytes; "
                                                        "bit_patterns: true when numpy has no such dtype"},
    {NULL, NULL},
};

const qn_command qn_cmd_decompress = {
    .name = "decompress",
    .summary = "restore the original file or folder",
    .synopsis = "FILE.quern [-o OUTPUT] [options]",
    .description =
        "Restores what was packed: one file, or a folder with all its files, bit for bit; tensors that were packed with loss "
        "(compress --codec) have approximated weights, and the result says how many. Checksums are verified on the way, and the "
        "output gets its name only when everything was right; a run that fails or is stopped leaves nothing behind.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the .quern file to restore from",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
