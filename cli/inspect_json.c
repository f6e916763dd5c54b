/* inspect_json.c: a checkpoint's content as JSON; see inspect_report.h. */
#include "cli/inspect_report.h"
#include "runtime/reader.h"
#include <math.h>

static void write_dims(qn_json_writer *j, const qn_source_tensor *o)
{
    qn_jw_begin(j, "shape", '[');
    for (unsigned i = 0; i < o->rank; i++)
        qn_jw_u64(j, NULL, o->dims[i]);
    qn_jw_end(j, ']');
}

static void write_codecs(qn_json_writer *j, const qn_index *ix, uint64_t object)
{
    uint64_t count[QN_CODEC_COUNT] = {0}, shared = 0;
    for (uint64_t c = ix->objects[object].first_chunk; c < ix->objects[object + 1].first_chunk; c++) {
        if (ix->chunks[c].codec < QN_CODEC_COUNT)
            count[ix->chunks[c].codec]++;
        else
            shared++;
    }
    qn_jw_begin(j, "chunks_by_codec", '{');
    for (unsigned k = 0; k < QN_CODEC_COUNT; k++)
        if (count[k])
            qn_jw_u64(j, qn_codec_tab[k].name ? qn_codec_tab[k].name : "unknown", count[k]);
    if (shared)
        qn_jw_u64(j, "shared", shared);
    qn_jw_end(j, '}');
}

static void write_numbers(qn_json_writer *j, const qn_tensor_stats *s)
{
    const bool some = s->n_finite > 0;
    qn_jw_u64(j, "nan", s->n_nan);
    qn_jw_u64(j, "inf", s->n_inf);
    qn_jw_u64(j, "zeros", s->n_zero);
    qn_jw_u64(j, "negative_zeros", s->n_neg_zero);
    qn_jw_u64(j, "subnormals", s->n_subnormal);
    qn_jw_real(j, "min", some ? s->min : (double)NAN);
    qn_jw_real(j, "max", some ? s->max : (double)NAN);
    qn_jw_real(j, "abs_max", some ? s->abs_max : (double)NAN);
    qn_jw_real(j, "mean", some ? s->mean : (double)NAN);
    qn_jw_real(j, "std", some ? s->std : (double)NAN);
}

static const char *const level_names[QN_LEVELS] = {"", "fast", "dense", "max"};

static void write_levels(qn_json_writer *j, const uint64_t *bytes, const bool *exact, uint64_t n_values)
{
    qn_jw_begin(j, "levels", '[');
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "level", level_names[l]);
        qn_jw_u64(j, "bytes", bytes[l]);
        if (n_values)
            qn_jw_real(j, "bits_per_weight", (double)bytes[l] * 8 / (double)n_values);
        qn_jw_bool(j, "exact", exact[l]);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

static void write_stats(qn_json_writer *j, const qn_inspection *x, const qn_survey_row *r)
{
    const qn_tensor_stats *s = &r->stats;
    qn_jw_begin(j, "stats", '{');
    qn_jw_u64(j, "values", s->n_values);
    if (s->has_exponent)
        qn_jw_real(j, "exponent_bits", s->exponent_bits);
    qn_jw_real(j, "bound_bits_per_weight", s->bound_bits);
    write_levels(j, r->level_bytes, r->level_exact, s->n_values);
    if (s->numeric)
        write_numbers(j, s);
    if (s->hidden != QN_BYTES) {
        qn_jw_text(j, "hidden_dtype", qn_dtype_name(s->hidden));
        qn_jw_u64(j, "hidden_exceptions", s->n_hidden_exceptions);
    }
    qn_jw_u64(j, "trailing_zero_bits", s->trailing_zeros);
    if (s->n_distinct)
        qn_jw_u64(j, "distinct_values", s->n_distinct);
    if (r->duplicate_of != UINT64_MAX)
        qn_jw_text(j, "same_as", x->source->tensors[x->survey.rows[r->duplicate_of].tensor].name);
    qn_jw_end(j, '}');
}

static void write_tensor(qn_json_writer *j, const qn_inspection *x, uint64_t tensor)
{
    const qn_source_tensor *o = &x->source->tensors[tensor];
    const qn_survey_row *r = x->has_stats ? qn_inspection_row(x, tensor) : NULL;
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "name", o->name);
    qn_jw_text(j, "dtype", qn_dtype_name((qn_dtype)o->dtype));
    write_dims(j, o);
    qn_jw_u64(j, "weights", qn_tensor_elems(o));
    qn_jw_u64(j, "bytes", o->n_bytes);
    qn_jw_text(j, "file", x->source->files[o->file].path);
    if (o->object != QN_NO_OBJECT)
        qn_jw_u64(j, "offset", x->source->objects[o->object].off);
    if (qn_inspection_is_stored(x, tensor)) {
        qn_jw_u64(j, "stored_bytes", qn_index_stored_bytes(x->index, o->object));
        qn_jw_u64(j, "chunks", qn_index_n_chunks(x->index, o->object));
        write_codecs(j, x->index, o->object);
    }
    if (r)
        write_stats(j, x, r);
    qn_jw_end(j, '}');
}

static void write_files(qn_json_writer *j, const qn_inspection *x)
{
    const qn_source *s = x->source;
    qn_jw_begin(j, "files", '[');
    for (uint64_t f = 0; f < s->n_files; f++) {
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "path", s->files[f].path);
        qn_jw_u64(j, "bytes", s->files[f].n_bytes);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

static void write_totals(qn_json_writer *j, const qn_inspection *x)
{
    const qn_survey *v = &x->survey;
    if (x->index) {
        qn_jw_u64(j, "packed_bytes", x->index->file_bytes);
        qn_jw_begin(j, "provenance", '{');
        for (uint64_t i = 0; i < x->index->n_props; i++)
            qn_jw_text(j, x->index->props[2 * i], x->index->props[2 * i + 1]);
        qn_jw_end(j, '}');
    }
    if (!x->has_stats)
        return;
    qn_jw_begin(j, "stats", '{');
    qn_jw_u64(j, "tensor_bytes", v->tensor_bytes);
    qn_jw_u64(j, "duplicates", v->n_duplicates);
    qn_jw_u64(j, "duplicate_bytes", v->duplicate_bytes);
    qn_jw_real(j, "bound_bytes", v->bound_bytes);
    write_levels(j, v->level_bytes, v->level_exact, 0);
    qn_jw_end(j, '}');
}

void qn_inspect_json(qn_json_writer *j, const qn_inspection *x)
{
    uint64_t n_bytes = 0;
    for (uint64_t f = 0; f < x->source->n_files; f++)
        n_bytes += x->source->files[f].n_bytes;
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "input", qn_source_given(x->source));
    qn_jw_text(j, "format", x->source->ops->format);
    qn_jw_u64(j, "source_bytes", n_bytes);
    write_totals(j, x);
    write_files(j, x);
    qn_jw_begin(j, "tensors", '[');
    for (uint64_t i = 0; i < x->n_tensors; i++)
        write_tensor(j, x, x->order[i]);
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
}
