/* json_write.h: one JSON object on a stream, as the values come (formats/json/write.h), so that a list of a million tensors needs no memory:
 * what --json prints. Real numbers have 9 digits; those that are not finite are null. */
#ifndef QN_CLI_JSON_WRITE_H
#define QN_CLI_JSON_WRITE_H

#include "formats/json/write.h"
#include <stdio.h>

typedef qn_json_out qn_json_writer;

/* Begins the object with "schema": "quern/COMMAND/1" and "version"; the number changes when a key changes meaning or
 * goes away, not when keys are added. */
void qn_jw_open(qn_json_writer *j, FILE *f, const char *command);
void qn_jw_close(qn_json_writer *j);

void qn_jw_begin(qn_json_writer *j, const char *key, char bracket); /* '{' or '[' */
void qn_jw_end(qn_json_writer *j, char bracket);                    /* '}' or ']' */
void qn_jw_text(qn_json_writer *j, const char *key, const char *v); /* NULL: null */
void qn_jw_u64(qn_json_writer *j, const char *key, uint64_t v);
void qn_jw_real(qn_json_writer *j, const char *key, double v); /* null when it is no finite number */
void qn_jw_bool(qn_json_writer *j, const char *key, bool v);

#endif
