/* json_write.c: see json_write.h. */
#include "cli/json_write.h"
#include "quern/base.h"
#include <math.h>

static void to_stream(void *to, const char *s, size_t n)
{
    fwrite(s, 1, n, to);
}

void qn_jw_open(qn_json_writer *j, FILE *f, const char *command)
{
    char schema[64];
    *j = qn_json_out_open(to_stream, f);
    snprintf(schema, sizeof schema, "quern/%s/1", command);
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "schema", schema);
    qn_jw_text(j, "version", qn_version());
}

void qn_jw_close(qn_json_writer *j)
{
    qn_jw_end(j, '}');
}

void qn_jw_begin(qn_json_writer *j, const char *key, char bracket)
{
    qn_json_out_begin(j, key, bracket);
}

void qn_jw_end(qn_json_writer *j, char bracket)
{
    qn_json_out_end(j, bracket);
}

void qn_jw_text(qn_json_writer *j, const char *key, const char *v)
{
    qn_json_out_text(j, key, v);
}

void qn_jw_u64(qn_json_writer *j, const char *key, uint64_t v)
{
    qn_json_out_u64(j, key, v);
}

void qn_jw_real(qn_json_writer *j, const char *key, double v)
{
    char number[32];
    snprintf(number, sizeof number, "%.9g", v);
    qn_json_out_raw(j, key, isfinite(v) ? number : "null");
}

void qn_jw_bool(qn_json_writer *j, const char *key, bool v)
{
    qn_json_out_bool(j, key, v);
}
