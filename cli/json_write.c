/* json_write.c: see json_write.h. */
#include "cli/json_write.h"
#include "formats/json/write.h"
#include "quern/base.h"
#include <math.h>
#include <string.h>

static void quoted(FILE *f, const char *s)
{
    fputc('"', f);
    while (*s) {
        const size_t n = qn_json_utf8(s);
        const unsigned char c = (unsigned char)*s;
        if (n == 0)
            fputs("\\ufffd", f);
        else if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(f, "\\u%04x", c);
        else
            fwrite(s, 1, n, f);
        s += n ? n : 1;
    }
    fputc('"', f);
}

static void key_of(qn_json_writer *j, const char *key)
{
    if (j->depth)
        fprintf(j->f, "%s\n%*s", j->first ? "" : ",", (int)(2 * j->depth), "");
    j->first = false;
    if (key) {
        quoted(j->f, key);
        fputs(": ", j->f);
    }
}

void qn_jw_begin(qn_json_writer *j, const char *key, char bracket)
{
    key_of(j, key);
    fputc(bracket, j->f);
    j->depth++;
    j->first = true;
}

void qn_jw_end(qn_json_writer *j, char bracket)
{
    j->depth--;
    if (!j->first)
        fprintf(j->f, "\n%*s", (int)(2 * j->depth), "");
    fputc(bracket, j->f);
    j->first = false;
}

void qn_jw_open(qn_json_writer *j, FILE *f, const char *command)
{
    char schema[64];
    *j = (qn_json_writer){.f = f, .first = true};
    snprintf(schema, sizeof schema, "quern/%s/1", command);
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "schema", schema);
    qn_jw_text(j, "version", qn_version());
}

void qn_jw_close(qn_json_writer *j)
{
    qn_jw_end(j, '}');
    fputc('\n', j->f);
}

void qn_jw_text(qn_json_writer *j, const char *key, const char *v)
{
    key_of(j, key);
    if (v)
        quoted(j->f, v);
    else
        fputs("null", j->f);
}

void qn_jw_u64(qn_json_writer *j, const char *key, uint64_t v)
{
    key_of(j, key);
    fprintf(j->f, "%llu", (unsigned long long)v);
}

void qn_jw_real(qn_json_writer *j, const char *key, double v)
{
    key_of(j, key);
    if (isfinite(v))
        fprintf(j->f, "%.9g", v);
    else
        fputs("null", j->f);
}

void qn_jw_bool(qn_json_writer *j, const char *key, bool v)
{
    key_of(j, key);
    fputs(v ? "true" : "false", j->f);
}
