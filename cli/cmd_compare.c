/* cmd_compare.c: quern compare CANDIDATE REFERENCE. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/compare_report.h"
#include "cli/gate_measure.h"
#include "cli/report_html.h"

struct args {
    qn_common common;
    qn_gate_data data;
    const char *report, *html;
};

static const qn_option options[] = {
    QN_GATE_DATA_OPTIONS(struct args, data),
    {.name = "report", .letter = 'r', .type = QN_OPT_PATH, .at = offsetof(struct args, report), .arg = "FILE",
     .help = "also write all that was measured as JSON: what gate takes as a baseline or as --current, and report draws"},
    {.name = "html", .type = QN_OPT_PATH, .at = offsetof(struct args, html), .arg = "FILE", .help = "write a page with drawings, as 'quern report' does"},
};

static qn_code show(qn_cli *cli, const qn_report *r, qn_err *err)
{
    if (!cli->common->json)
        return cli->common->quiet ? QN_OK : qn_compare_text(cli, r, err);
    qn_textbuf t;
    qn_textbuf_init(&t, cli->env.alloc);
    qn_report_json(&t, r);
    const qn_code rc = qn_textbuf_check(&t, err);
    if (rc == QN_OK)
        fwrite(t.text, 1, (size_t)t.n, stdout);
    qn_textbuf_release(&t);
    return rc;
}

static qn_code write_page(qn_cli *cli, const qn_report *r, const char *path, qn_err *err)
{
    qn_textbuf t;
    qn_textbuf_init(&t, cli->env.alloc);
    qn_report_html(&t, r, NULL, NULL);
    const qn_code rc = qn_gate_write_text(cli, &t, path, err);
    qn_textbuf_release(&t);
    return rc;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    qn_report r;
    QN_TRY(qn_gate_data_check(cli, &a->data, err));
    qn_report_init(&r, cli->env.alloc);
    qn_code rc = qn_gate_measure(cli, &a->data, cli->operands.items[0], cli->operands.items[1], NULL, NULL, &r, err);
    if (rc == QN_OK && a->report)
        rc = qn_gate_write_report(cli, &r, a->report, err);
    if (rc == QN_OK && a->html)
        rc = write_page(cli, &r, a->html, err);
    if (rc == QN_OK)
        rc = show(cli, &r, err);
    qn_report_release(&r);
    return rc;
}

static const qn_example examples[] = {
    {"quern compare model.quern model/ --data wiki.test.raw", "what compression cost, tensor by tensor, layer by layer, token by token"},
    {"quern compare model.gguf model/", "the weights alone: what a conversion made of them"},
    {"quern compare net-int8.onnx net.onnx --inputs images.npz", "a model that is no language model"},
    {"quern compare model.quern model/ --data wiki.test.raw --report model.json", "keep it, as a baseline for gate"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"schema", "quern/report/1: --json prints what --report writes"},
    {"binding", "digests of reference, candidate, tokenizer and data; their paths; version, cpu, recipe; chunks, context, scored"},
    {"reason, limits[]", "of a baseline: why gate wrote it; name, value, times_baseline of what was in force"},
    {"size_bytes, reference_bytes, weights", "stored sizes, and how many weights the reference has"},
    {"tokenizer_trouble, cannot_run", "there only when the candidate has another tokenizer, or cannot be run"},
    {"tokens", "kl, kl_p99, perplexity, perplexity_reference, perplexity_ratio, same_top1, excess: value, se, low, high; max_probability_change, "
               "kl_quantiles (min, 5, 50, 95, 99, 99.9 %, max), kl_histogram (half powers of 2 from 2^-26)"},
    {"arrays", "with --inputs: same_top1, accuracy, accuracy_reference, outputs[] (name, values, rel_rms, max_rel, max_abs, cosine)"},
    {"noise", "kl, nll: how far the mean of a chunk moves when it is measured again on other threads and batches"},
    {"layers[]", "name, rel_rms, max_abs, own_rel (given what the reference's layer gets), bits"},
    {"tensors[]", "name, dtype, ref_dtype (when another), codec, weights, bytes, rel, max_abs, cosine, differing, trouble, looks, layer"},
    {"chunks[]", "n, nll, nll of the reference, kl, change of probability, its square, right first, same first: sums over each chunk"},
    {"seconds", "time taken"},
    {NULL, NULL},
};

const qn_command qn_cmd_compare = {
    .name = "compare",
    .summary = "measure how far a model is from a reference: weights, layers, predictions",
    .synopsis = "CANDIDATE REFERENCE [--data FILE] [--report FILE] [options]",
    .description =
        "Compares a model with the one that it was made from, in whatever formats they are: structure and error of every tensor (a GGUF file's by the "
        "names of the Hugging Face folder), and, with --data or --inputs, what the errors do to layers and predictions. Tokens are made by the "
        "reference's tokenizer.\n\n"
        "It measures and never judges: the exit code is 0 whatever was found. See gate for limits.",
    .options = {options, sizeof options / sizeof options[0]},
    .min_operands = 2,
    .max_operands = 2,
    .operand = "a model to compare",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
