/* extract.c: see extract.h. */
#include "cli/extract.h"
#include "base/err.h"
#include "cli/json_write.h"
#include "cli/suggest.h"
#include "base/sizes.h"
#include "cli/units.h"
#include "formats/npz/npy_write.h"
#include <string.h>

static qn_code find(qn_cli *cli, const qn_source *src, const char *name, uint64_t *tensor, qn_err *err)
{
    *tensor = qn_source_tensor_find(src, name);
    if (*tensor != UINT64_MAX)
        return QN_OK;
    qn_suggest near = qn_suggest_for(name, strlen(name));
    for (uint64_t i = 0; i < src->n_tensors; i++)
        qn_suggest_try(&near, src->tensors[i].name);
    if (near.best)
        qn_hint_set(&cli->hint, "did you mean '%s'?", near.best);
    else
        qn_hint_set(&cli->hint, "'quern inspect' lists the names");
    return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "has no tensor '%s'", name), qn_source_given(src));
}

/* One bound of a row range, `fallback` when it is left out. */
static bool bound(const char *s, size_t n, uint64_t fallback, uint64_t *out)
{
    char digits[24];
    *out = fallback;
    if (n == 0)
        return true;
    if (n >= sizeof digits)
        return false;
    memcpy(digits, s, n);
    digits[n] = '\0';
    return qn_parse_count(digits, out);
}

static qn_code parse_rows(const char *text, const qn_source_tensor *o, qn_npy_options *opt, qn_err *err)
{
    const char *colon = strchr(text, ':');
    const uint64_t n_rows = o->rank ? o->dims[0] : 1;
    uint64_t first, end;
    if (!colon || !bound(text, (size_t)(colon - text), 0, &first) || !bound(colon + 1, strlen(colon + 1), n_rows, &end))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--rows '%s': FIRST:END is expected, such as 0:16", text);
    if (first > end || end > n_rows)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--rows %s: the tensor has rows 0:%llu", text,
                       (unsigned long long)n_rows);
    opt->some_rows = true;
    opt->first_row = first;
    opt->n_rows = end - first;
    return QN_OK;
}

static void print_json(const qn_source *src, const qn_extract_options *opt, const qn_npy_written *w)
{
    qn_json_writer j;
    qn_jw_open(&j, stdout, "decompress");
    qn_jw_text(&j, "input", qn_source_given(src));
    qn_jw_text(&j, "output", opt->output);
    qn_jw_u64(&j, "bytes", w->n_bytes);
    qn_jw_text(&j, "tensor", opt->tensor);
    qn_jw_text(&j, "dtype", qn_dtype_name(w->dtype));
    qn_jw_text(&j, "numpy_dtype", w->numpy_name);
    qn_jw_bool(&j, "bit_patterns", w->as_bits);
    qn_jw_begin(&j, "shape", '[');
    for (unsigned i = 0; i < w->rank; i++)
        qn_jw_u64(&j, NULL, w->dims[i]);
    qn_jw_end(&j, ']');
    qn_jw_close(&j);
}

static void print_text(const qn_cli *cli, const qn_extract_options *opt, const qn_npy_written *w)
{
    char name[200], size[32];
    qn_printable(name, sizeof name, opt->output, strlen(opt->output));
    qn_human_bytes(size, sizeof size, w->n_bytes);
    printf("%s%s%s: %s %s [", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out), qn_dtype_name(w->dtype),
           w->as_bits ? "as bit patterns," : "as");
    for (unsigned i = 0; i < w->rank; i++)
        printf(i ? ", %llu" : "%llu", (unsigned long long)w->dims[i]);
    printf("] of %s, %s\n", w->numpy_name, size);
    if (w->as_bits)
        printf("numpy has no %s: --f32 writes float32 values instead\n", qn_dtype_name(w->dtype));
}

qn_code qn_cli_extract(qn_cli *cli, qn_source *src, const qn_extract_options *opt, qn_err *err)
{
    qn_npy_options npy = {.widen = opt->f32, .overwrite = opt->force};
    qn_npy_written w;
    uint64_t tensor;
    if (!opt->output)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "decompress: --tensor wants -o FILE.npy");
    QN_TRY(find(cli, src, opt->tensor, &tensor, err));
    if (opt->rows)
        QN_TRY(parse_rows(opt->rows, &src->tensors[tensor], &npy, err));
    QN_TRY(qn_npy_write(src, tensor, opt->output, &npy, &w, err));
    if (cli->common->json)
        print_json(src, opt, &w);
    else if (!cli->common->quiet)
        print_text(cli, opt, &w);
    return QN_OK;
}
